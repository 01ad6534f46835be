//! Verifiers that misbehave, for the tests of the composites.
