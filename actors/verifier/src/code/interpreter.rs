//! The interpreter that runs the programs, and what surrounds it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io};

use super::cases::Tests;
use super::judge::{Outcome, judge};
use super::options::{CodeOptions, Network};
use super::program::{Event, Program};
use crate::VerifierError;
use crate::contain::{Limits, Scratch, Spec, can_drop_network, is_root};

/// How long an interpreter may take to say where it is.
const ASK_DEADLINE: Duration = Duration::from_secs(20);

/// Where programs look for commands.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The whole environment of a program, apart from its directories: texts in UTF-8, the same order of sets in every run,
/// nothing of the user's, one thread for libraries that would take all processors.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("LANG", "C.UTF-8"),
    ("PYTHONHASHSEED", "0"),
    ("PYTHONIOENCODING", "utf-8"),
    ("PYTHONNOUSERSITE", "1"),
    ("PYTHONSAFEPATH", "1"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
];

/// An interpreter that was tried.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub(super) options: Arc<CodeOptions>,
    /// With its full path.
    command: Vec<String>,
    /// Whether it runs the harness.
    pub(super) is_python: bool,
    no_network: bool,
}

impl Interpreter {
    /// Finds the interpreter, and makes sure that it can judge: under these limits, a right program must pass.
    ///
    /// # Errors
    /// What makes judging impossible.
    pub(super) async fn find(options: &Arc<CodeOptions>) -> Result<Self, VerifierError> {
        let mut command = options.interpreter.clone();
        command[0] = find_program(&command[0]).map_err(|error| setup(options, &error.to_string()))?;
        let no_network = network(options).await?;
        let mut found = Self { options: Arc::clone(options), command, is_python: false, no_network };
        if let Some(python) = found.ask_python().await {
            found.command[0] = python;
            found.is_python = true;
        }
        if is_root() && options.user.is_none() {
            tracing::warn!("programs that a model wrote run as root: set `user` (65534 is nobody)");
        }
        if !found.is_python {
            tracing::warn!(
                "`{}` is no Python: only tests with inputs and outputs can be judged",
                options.interpreter[0]
            );
        }
        found.try_out().await?;
        Ok(found)
    }

    /// The interpreter itself, if it is Python: what is on the path may be a script that looks for it.
    async fn ask_python(&self) -> Option<String> {
        // Others might take the question for an order.
        let name = Path::new(&self.command[0]).file_name()?.to_string_lossy().to_lowercase();
        if !name.contains("py") {
            return None;
        }
        let mut command = self.command.clone();
        command.extend(["-c", "import sys; print(sys.executable)"].map(str::to_owned));
        let mut program = Program::start(Spec { command, ..Spec::default() }, Vec::new(), 4096).await.ok()?;
        let clock = program.clock(ASK_DEADLINE);
        while program.next(&clock).await == Event::Output {}
        let path = String::from_utf8(program.end().await.output).ok()?.trim().to_owned();
        Path::new(&path).is_absolute().then_some(path)
    }

    async fn try_out(&self) -> Result<(), VerifierError> {
        let (code, tests) = match self.is_python {
            true => {
                let tests = vec!["assert answer(1) == 2".to_owned()];
                ("def answer(x):\n    return x + 1\n", Tests::Asserts { setup: String::new(), tests })
            }
            // An empty program, which prints nothing, is one in most languages.
            false => ("", Tests::Streams(vec![super::cases::Stream { input: String::new(), output: String::new() }])),
        };
        match judge(self, code, &tests, false).await.outcomes.pop() {
            Some(Outcome::Passed) => Ok(()),
            Some(Outcome::Failed(why)) => Err(setup(&self.options, &format!("a right program fails: {why}"))),
            Some(Outcome::Void(why)) => Err(setup(&self.options, &why.to_string())),
            None => Err(setup(&self.options, "a trial has no outcome")),
        }
    }

    /// Starts it with some arguments, which may depend on the program's own directory. `time` is how long it may run.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) async fn start(
        &self,
        arguments: impl FnOnce(&Path) -> io::Result<Vec<String>>,
        input: Vec<u8>,
        time: Duration,
    ) -> io::Result<Program> {
        let scratch = Scratch::new(self.options.user)?;
        let mut command = self.command.clone();
        command.extend(arguments(scratch.path())?);
        let home = scratch.path().to_string_lossy().into_owned();
        let own = Path::new(&self.command[0]).parent().map(Path::to_string_lossy).unwrap_or_default();
        let path = format!("{own}:{PATH}");
        let directories = [("PATH", path), ("HOME", home.clone()), ("TMPDIR", home)];
        let fixed = ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = directories.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(fixed).collect();
        let spec = Spec {
            command,
            clear_environment: true,
            environment,
            scratch: Some(scratch),
            limits: self.limits(time),
            user: self.options.user,
            no_network: self.no_network,
            directory: None,
        };
        Program::start(spec, input, self.options.output_kib as usize * 1024).await
    }

    fn limits(&self, time: Duration) -> Limits {
        let options = &self.options;
        // Outside a namespace of its own, the kernel counts everything that the user runs: that is a limit for a user who
        // runs nothing else, and would be an accident for any other.
        let processes = match (self.no_network && counts_per_namespace(), options.user) {
            (true, _) => Some(options.processes),
            (false, Some(_)) => Some(options.processes.saturating_mul(options.concurrency() as u64)),
            (false, None) => None,
        };
        Limits {
            // The clock on the wall comes first, except for programs of several threads.
            cpu_seconds: Some(time.as_secs() + 2),
            memory_mib: Some(options.memory_mib),
            file_mib: Some(options.file_mib),
            open_files: Some(options.open_files),
            processes,
        }
    }

    pub(super) fn file_name(&self) -> &'static str {
        if self.is_python { "answer.py" } else { "answer" }
    }
}

/// Whether programs are to be kept from the network.
async fn network(options: &CodeOptions) -> Result<bool, VerifierError> {
    if options.network == Network::Keep {
        return Ok(false);
    }
    match can_drop_network(options.user).await {
        Ok(()) => Ok(true),
        Err(error) if options.network == Network::Require => Err(setup(
            options,
            &format!("the kernel does not let us drop the network: {error} (network = \"require\")"),
        )),
        Err(error) => {
            tracing::warn!("programs can reach the network: the kernel does not let us drop it ({error})");
            Ok(false)
        }
    }
}

/// Since Linux 5.14 the processes of a user namespace have a count of their own.
fn counts_per_namespace() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 14)
}

fn find_program(name: &str) -> io::Result<String> {
    let runs =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    if name.contains('/') {
        // A program runs in a directory of its own, where a relative path would lead elsewhere.
        return std::path::absolute(name).map(text);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join(name)).find(runs);
    found.map(text).ok_or_else(|| io::Error::other(format!("there is no `{name}` on the path")))
}

fn setup(options: &CodeOptions, why: &str) -> VerifierError {
    VerifierError::Setup(format!("cannot judge programs with `{}`: {why}", options.interpreter.join(" ")))
}
