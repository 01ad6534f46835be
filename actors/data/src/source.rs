//! Which files a setting names: one file, several, a directory, or a glob; always in sorted order.
//!
//! A directory stands for the data files directly in it, known by their endings; hidden files are left alone. A directory that
//! holds several splits (`train-0.parquet` beside `test-0.parquet`) is refused: reading both would train on the test.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Endings of the files that are taken from a directory.
const ENDINGS: [&str; 7] = [".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst", ".parquet"];

/// How the names of splits begin.
const SPLITS: [&str; 5] = ["train", "test", "validation", "valid", "dev"];

/// Files, directories or globs: one text, or a list of them.
///
/// ```
/// use counterpoint_data::Files;
///
/// let one: Files = "data/train.jsonl".into();
/// assert_eq!(one.to_string(), "data/train.jsonl");
/// let several: Files = serde_json::from_str(r#"["a.jsonl.gz", "b/*.parquet"]"#).unwrap();
/// assert_eq!(several.to_string(), "a.jsonl.gz, b/*.parquet");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Files {
    /// One.
    One(PathBuf),
    /// Several.
    Several(Vec<PathBuf>),
}

impl Default for Files {
    fn default() -> Self {
        Self::One(PathBuf::new())
    }
}

impl<P: Into<PathBuf>> From<P> for Files {
    fn from(path: P) -> Self {
        Self::One(path.into())
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.given().iter().map(|path| path.display().to_string()).collect();
        f.write_str(&names.join(", "))
    }
}

impl Files {
    /// As they were given.
    pub fn given(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.given().is_empty() || self.given().iter().any(|path| path.as_os_str().is_empty())
    }

    /// The first of the given that is not there, if one is not; a glob is there if anything matches it.
    pub fn missing(&self) -> Option<&Path> {
        self.given()
            .iter()
            .map(PathBuf::as_path)
            .find(|path| !path.exists() && matches(path).is_ok_and(|m| m.is_empty()))
    }

    /// The files themselves, each once, sorted within each given directory and glob.
    ///
    /// # Errors
    /// One that is not there, a directory or glob without a data file, a glob that is none.
    pub fn resolve(&self) -> Result<Vec<PathBuf>, DataError> {
        let mut seen = BTreeSet::new();
        let mut files = Vec::new();
        for given in self.given() {
            files.extend(resolve(given)?.into_iter().filter(|file| seen.insert(file.clone())));
        }
        Ok(files)
    }
}

fn resolve(given: &Path) -> Result<Vec<PathBuf>, DataError> {
    if given.is_dir() {
        return directory(given);
    }
    // A file whose name has brackets is itself before it is a pattern.
    if given.exists() {
        return Ok(vec![given.to_owned()]);
    }
    let files: Vec<PathBuf> = matches(given)?.into_iter().filter(|path| path.is_file()).collect();
    match (files.is_empty(), is_pattern(given)) {
        (false, _) => Ok(files),
        (true, true) => Err(DataError::file(given, "no file matches this pattern")),
        (true, false) => Err(DataError::io(given)(std::io::ErrorKind::NotFound.into())),
    }
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// What a pattern matches, sorted; a path without a wildcard matches at most itself.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>, DataError> {
    let options =
        glob::MatchOptions { require_literal_separator: true, require_literal_leading_dot: true, case_sensitive: true };
    let text = pattern.to_str().ok_or_else(|| DataError::file(pattern, "is not valid UTF-8"))?;
    let found = glob::glob_with(text, options)
        .map_err(|e| DataError::file(pattern, format!("is not a pattern: {} at byte {}", e.msg, e.pos)))?;
    let mut files = Vec::new();
    for path in found {
        files.push(path.map_err(|e| DataError::Io { path: e.path().to_owned(), source: e.into() })?);
    }
    files.sort();
    Ok(files)
}

fn directory(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(DataError::io(dir))? {
        let path = entry.map_err(DataError::io(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending)) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DataError::file(dir, format!("holds no data file (*{})", ENDINGS.join(", *"))));
    }
    let splits: BTreeSet<&str> = files.iter().filter_map(|file| split_of(file)).collect();
    if splits.len() > 1 {
        let names: Vec<_> = splits.into_iter().collect();
        let problem = format!(
            "holds files of several splits ({}); name one with a pattern, as in {}",
            names.join(", "),
            dir.join("train*").display()
        );
        return Err(DataError::file(dir, problem));
    }
    Ok(files)
}

/// The split that a file's name begins with: `train-00000-of-00002.parquet`, `test.jsonl`.
fn split_of(file: &Path) -> Option<&'static str> {
    let name = file.file_name()?.to_str()?.to_lowercase();
    SPLITS
        .into_iter()
        .find(|split| name.strip_prefix(split).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_of(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    fn names(dir: &tempfile::TempDir, files: &Files) -> Vec<String> {
        let strip = |p: &PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
        files.resolve().unwrap().iter().map(strip).collect()
    }

    #[test]
    fn a_directory_gives_its_data_files_in_order_and_nothing_else() {
        let dir =
            dir_of(&["b.jsonl", "a.parquet", "c.jsonl.GZ", "README.md", "info.json", ".hidden.jsonl", "sub/d.jsonl"]);
        assert_eq!(names(&dir, &dir.path().into()), ["a.parquet", "b.jsonl", "c.jsonl.GZ"]);
    }

    #[test]
    fn a_glob_is_sorted_and_a_file_named_twice_is_read_once() {
        let dir = dir_of(&["x/2.jsonl", "x/1.jsonl", "y/3.jsonl"]);
        let at = |name: &str| dir.path().join(name);
        assert_eq!(names(&dir, &at("*/*.jsonl").into()), ["x/1.jsonl", "x/2.jsonl", "y/3.jsonl"]);
        assert_eq!(names(&dir, &at("**/3.jsonl").into()), ["y/3.jsonl"]);
        assert_eq!(names(&dir, &Files::Several(vec![at("y/3.jsonl"), at("y/*")])), ["y/3.jsonl"]);
    }

    #[test]
    fn a_name_with_brackets_is_itself_before_it_is_a_pattern() {
        let dir = dir_of(&["a[1].jsonl"]);
        assert_eq!(names(&dir, &dir.path().join("a[1].jsonl").into()), ["a[1].jsonl"]);
    }

    #[test]
    fn a_directory_of_several_splits_is_refused() {
        let dir = dir_of(&["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"]);
        let error = Files::from(dir.path()).resolve().unwrap_err().to_string();
        assert!(error.contains("several splits (test, train); name one with a pattern"), "{error}");
        assert_eq!(dir_of(&["training.jsonl", "tests.jsonl"]).path().read_dir().unwrap().count(), 2);
        assert!(split_of(Path::new("training.jsonl")).is_none());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = dir_of(&["a.txt"]);
        let said = |name: &str| Files::from(dir.path().join(name)).resolve().unwrap_err().to_string();
        assert!(said("b.jsonl").contains("b.jsonl: "));
        assert!(said("*.jsonl").ends_with("no file matches this pattern"));
        assert!(said("[").contains("is not a pattern"), "{}", said("["));
        assert!(Files::from(dir.path()).resolve().unwrap_err().to_string().contains("holds no data file (*.jsonl"));
        assert!(Files::from(dir.path().join("*.jsonl")).missing().is_some());
        assert!(Files::from(dir.path().join("*.txt")).missing().is_none());
    }
}
