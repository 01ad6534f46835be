use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use counterpoint_learner::objective::{self, Objective};
use counterpoint_rollout::VerifierMsg;
use counterpoint_verifier::{PoolArgs, Registry, Verifier, VerifierError};
use ractor::Actor;
use serde_json::{Map, Value};

use crate::cli;

/// The whole program, with the verifiers and objectives that one's own `main` adds to the built-in ones.
///
/// ```no_run
/// # use std::process::ExitCode;
/// use counterpoint::App;
///
/// fn main() -> ExitCode {
///     App::new().main()
/// }
/// ```
#[derive(Debug, Default)]
pub struct App {
    registry: Registry,
    problem: Option<String>,
}

impl App {
    /// The program as it is shipped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a verifier, for `verifier.name = "NAME"` and for `kind = "NAME"` in a `[verifier.define.<id>]`. The factory gets
    /// the options written there. A name that is taken is reported by [`Self::main`].
    #[must_use]
    pub fn verifier(
        mut self,
        name: &str,
        factory: impl Fn(Value) -> Result<Arc<dyn Verifier>, VerifierError> + Send + Sync + 'static,
    ) -> Self {
        if let Err(error) = self.registry.register(name, factory) {
            self.problem.get_or_insert(error.to_string());
        }
        self
    }

    /// Adds a verifier actor, for `verifier.actor = "NAME"`: a replacement of the built-in pool, with a schedule of its own.
    /// See [`crate::verifier::VerifierMsg`] for what it must do; `make` is called for every start of one.
    #[must_use]
    pub fn verifier_actor<A>(mut self, name: &str, make: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        A: Actor<Arguments = PoolArgs>,
        A::Msg: From<VerifierMsg>,
        VerifierMsg: TryFrom<A::Msg>,
    {
        if let Err(error) = self.registry.register_actor(name, make) {
            self.problem.get_or_insert(error.to_string());
        }
        self
    }

    /// Adds an objective, for `objective.name = "NAME"`; the factory gets `[objective.options]`. It is known to the whole
    /// process. A name that is taken is reported by [`Self::main`].
    #[must_use]
    pub fn objective(
        mut self,
        name: &str,
        factory: impl Fn(&Map<String, Value>) -> Result<Box<dyn Objective>, String> + Send + Sync + 'static,
    ) -> Self {
        if let Err(error) = objective::register(name, factory) {
            self.problem.get_or_insert(error.to_string());
        }
        self
    }

    /// Does what the command line says. Errors go to stderr, one line each; what is returned is the exit code.
    pub fn main(self) -> ExitCode {
        rest_idle_threads();
        self.main_with(std::env::args_os().skip(1))
    }

    /// The same for arguments given here, the program's name not among them, and without starting the process again: set
    /// `OMP_WAIT_POLICY=PASSIVE` before it starts.
    pub fn main_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        if let Some(problem) = self.problem {
            eprintln!("counterpoint: error: {problem}");
            return ExitCode::from(2);
        }
        cli::main(&self.registry, arguments)
    }
}

/// Makes idle OpenMP threads sleep. By default they spin for a while, which starves the other engines on the same cores
/// (seen: a third of the speed). libgomp reads the variable when it is loaded, before `main`, so the program has to start
/// itself again, once. If it cannot, everything works, slower.
fn rest_idle_threads() {
    const POLICY: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(POLICY).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut again = Command::new(program);
        again.args(std::env::args_os().skip(1)).env(POLICY, "PASSIVE");
        let error = again.exec(); // returns only if it failed
        eprintln!(
            "counterpoint: idle threads will spin, since the program could not start itself with {POLICY}=PASSIVE: {error}"
        );
    }
}
