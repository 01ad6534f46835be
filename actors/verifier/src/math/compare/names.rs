//! The names in two expressions: which there are, which stand for whole numbers, and whether upper and lower case differ.

use std::collections::BTreeSet;

use crate::math::{Budget, Constant, Expr, Function, OverBudget};

/// What two expressions call things.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The keys of all names, in order.
    all: Vec<String>,
    /// Those of them that stand where only whole numbers make sense: under a factorial, as the exponent of −1.
    whole: Vec<String>,
    /// One of the expressions has a letter in both cases: then they are two names.
    by_case: bool,
    /// The imaginary unit occurs: logarithms and roots of negative numbers are meant.
    pub(super) imaginary: bool,
}

/// Names of one expression, as written.
#[derive(Default)]
struct Found<'e> {
    names: BTreeSet<&'e str>,
    whole: BTreeSet<&'e str>,
    imaginary: bool,
}

impl Names {
    pub(super) fn of(a: &Expr, b: &Expr, budget: &mut Budget) -> Result<Self, OverBudget> {
        let (mut left, mut right) = (Found::default(), Found::default());
        left.look(a, false, budget)?;
        right.look(b, false, budget)?;
        let by_case = left.has_both_cases() || right.has_both_cases();
        let mut found = Self { by_case, imaginary: left.imaginary || right.imaginary, ..Self::default() };
        found.all = found.keys(left.names.union(&right.names));
        found.whole = found.keys(left.whole.union(&right.whole));
        Ok(found)
    }

    /// What makes two names one.
    pub(super) fn key(&self, name: &str) -> String {
        if self.by_case { name.to_owned() } else { name.to_lowercase() }
    }

    /// The place of a name among all.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.all.binary_search(&self.key(name)).ok()
    }

    pub(super) fn all(&self) -> &[String] {
        &self.all
    }

    pub(super) fn is_whole(&self, key: &str) -> bool {
        self.whole.iter().any(|whole| whole == key)
    }

    pub(super) fn any_whole(&self) -> bool {
        !self.whole.is_empty()
    }

    fn keys<'n>(&self, names: impl Iterator<Item = &'n &'n str>) -> Vec<String> {
        names.map(|name| self.key(name)).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl<'e> Found<'e> {
    /// `whole`: the expression stands where only a whole number makes sense.
    fn look(&mut self, expr: &'e Expr, whole: bool, budget: &mut Budget) -> Result<(), OverBudget> {
        budget.spend(1)?;
        match expr {
            Expr::Symbol(name) | Expr::Text(name) => {
                self.names.insert(name);
                if whole {
                    self.whole.insert(name);
                }
                Ok(())
            }
            Expr::Constant(constant) => {
                self.imaginary |= *constant == Constant::I;
                Ok(())
            }
            Expr::Factorial(a) => self.look(a, true, budget),
            Expr::Binomial(n, k) => {
                self.look(n, whole || !matches!(**k, Expr::Number(_)), budget)?;
                self.look(k, true, budget)
            }
            Expr::Power(base, exponent) => {
                self.look(base, whole, budget)?;
                self.look(exponent, whole || is_negative(base), budget)
            }
            Expr::Apply(Function::Gcd | Function::Lcm | Function::Mod, items) => {
                items.iter().try_for_each(|item| self.look(item, true, budget))
            }
            Expr::Big(_, lower, upper, body) => {
                for side in [lower, upper].into_iter().flatten() {
                    self.look(side, true, budget)?;
                }
                self.look(body, whole, budget)
            }
            _ => {
                let mut outcome = Ok(());
                expr.for_each_part(&mut |part| {
                    if outcome.is_ok() {
                        outcome = self.look(part, whole, budget);
                    }
                });
                outcome
            }
        }
    }

    fn has_both_cases(&self) -> bool {
        let folded: BTreeSet<String> = self.names.iter().map(|name| name.to_lowercase()).collect();
        folded.len() < self.names.len()
    }
}

fn is_negative(base: &Expr) -> bool {
    matches!(base, Expr::Negate(a) if matches!(**a, Expr::Number(_)))
}
