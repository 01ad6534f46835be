//! How the CPU's cores are shared out between the engines. Set once: moving threads during a run would change the order of
//! float additions, and with it the results.

use crate::config::Config;

/// CPU threads per engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) learner: usize,
    pub(crate) generator: usize,
    pub(crate) evaluator: usize,
}

/// The configured numbers, and for `auto` a share of the cores.
pub(crate) fn share(config: &Config) -> Shares {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let auto = auto(cores, config.generator.count as usize, config.replay.max_staleness == 0);
    Shares {
        learner: config.learner.threads.or(auto.learner),
        generator: config.generator.threads.or(auto.generator),
        evaluator: auto.evaluator,
    }
}

/// At η = 0 generators and learner take turns, so each side has all cores. Otherwise half of the cores learn, and the
/// generators share the other half. An evaluation in `pause` mode has all cores to itself.
fn auto(cores: usize, generators: usize, turns: bool) -> Shares {
    let sampling = if turns { cores } else { cores - (cores / 2) };
    let learner = if turns { cores } else { (cores / 2).max(1) };
    Shares { learner, generator: (sampling / generators).max(1), evaluator: cores }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_out_and_nobody_goes_without() {
        let shares = |learner, generator, evaluator| Shares { learner, generator, evaluator };
        assert_eq!(auto(2, 1, false), shares(1, 1, 2));
        assert_eq!(auto(2, 1, true), shares(2, 2, 2));
        assert_eq!(auto(1, 2, false), shares(1, 1, 1));
        assert_eq!(auto(16, 2, false), shares(8, 4, 16));
        assert_eq!(auto(5, 1, false), shares(2, 3, 5));
    }
}
