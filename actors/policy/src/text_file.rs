//! Small text files of a model directory, read without trusting their size or kind.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::PolicyError;

/// The text of a regular file of at most `most` bytes. A directory, a device or a pipe (which could be waited on for ever)
/// is an error.
pub(crate) fn read(path: &Path, most: u64) -> Result<String, PolicyError> {
    let io = |source: io::Error| PolicyError::Io { path: path.to_owned(), source };
    let refuse = |problem: &str| PolicyError::File { path: path.to_owned(), problem: problem.to_owned() };
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(refuse("is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(io)?;
    if bytes.len() as u64 > most {
        return Err(refuse(&format!("is longer than the {most} bytes that such a file may have")));
    }
    String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), "12345");
        let error = |path: &Path, most| read(path, most).unwrap_err().to_string();
        assert!(error(&path, 4).ends_with("file: is longer than the 4 bytes that such a file may have"));
        assert!(error(dir.path(), 4).ends_with(": is not a regular file"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(error(&path, 4).ends_with(": is not UTF-8 text"));
    }
}
