//! Scalars by the way they are written: quantities, percentages, angles, ratios, numerals with a base; what is left is a value.

use super::{Comparison, Rule, Verdict, tree};
use crate::math::{Constant, Expr, Function, OverBudget};

impl Comparison<'_> {
    pub(super) fn scalars(&mut self, a: &Expr, b: &Expr) -> Verdict {
        if let Some(verdict) = self.quantities(a, b)? {
            return Ok(verdict);
        }
        if let Some(verdict) = self.percentages(a, b)? {
            return Ok(verdict);
        }
        if let Some(verdict) = self.angles(a, b)? {
            return Ok(verdict);
        }
        if let Some(verdict) = self.ratios(a, b)? {
            return Ok(verdict);
        }
        if let Some(verdict) = numerals(a, b) {
            return Ok(verdict);
        }
        // The conjugate of a name is the name itself only if that is real, which its bar denies.
        if tree::contains(a, &is_part_of_name) || tree::contains(b, &is_part_of_name) {
            return self.values(&parts_named(a), &parts_named(b));
        }
        self.values(a, b)
    }

    /// p% is p/100, and to most who write answers also p.
    fn percentages(&mut self, a: &Expr, b: &Expr) -> Result<Option<Option<Rule>>, OverBudget> {
        let found = match (without_percent(a), without_percent(b)) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) => self.same(&a, &b)?,
            (Some(bare), None) => self.percentage(a, &bare, b)?,
            (None, Some(bare)) => self.percentage(b, &bare, a)?,
        };
        Ok(Some(found.map(|_| Rule::Percentage)))
    }

    fn percentage(&mut self, percentage: &Expr, bare: &Expr, other: &Expr) -> Verdict {
        if self.options.bare_percent
            && let Some(rule) = self.same(bare, other)?
        {
            return Ok(Some(rule));
        }
        self.values(percentage, other)
    }

    /// 30° is 30 where nothing says that angles are meant, and π/6 where a π says so.
    fn angles(&mut self, a: &Expr, b: &Expr) -> Result<Option<Option<Rule>>, OverBudget> {
        let (left, right) = (tree::has_bare_degrees(a), tree::has_bare_degrees(b));
        if !left && !right {
            return Ok(None);
        }
        let mut found = self.values(&tree::without_degrees(a), &tree::without_degrees(b))?;
        let other = if left { b } else { a };
        let has_pi = |part: &Expr| matches!(part, Expr::Constant(Constant::Pi));
        if found.is_none() && left != right && tree::contains(other, &has_pi) {
            found = self.values(a, b)?;
        }
        Ok(Some(found.map(|_| Rule::Degrees)))
    }

    /// a : b : c and its multiples. With two parts it is a quotient too, unless it is a time of day.
    fn ratios(&mut self, a: &Expr, b: &Expr) -> Result<Option<Option<Rule>>, OverBudget> {
        let (Expr::Ratio(left), Expr::Ratio(right)) = (a, b) else { return Ok(None) };
        if left.len() != right.len() {
            return Ok(Some(None));
        }
        let product = |x: &Expr, y: &Expr| Expr::Product(vec![x.clone(), y.clone()]);
        let zero = |part: &Expr| matches!(part, Expr::Number(number) if number.value.is_zero());
        let in_proportion = !left.iter().chain(right).any(zero);
        for (x, y) in left.iter().zip(right).skip(usize::from(in_proportion)) {
            let same = if in_proportion {
                self.values(&product(x, &right[0]), &product(y, &left[0]))?
            } else {
                self.values(x, y)?
            };
            if same.is_none() {
                return Ok(Some(None));
            }
        }
        Ok(Some(Some(Rule::Ratio)))
    }
}

/// `\overline{z}`, `\operatorname{Re} z`: one of the parts of a complex number with a name.
fn is_part_of_name(expr: &Expr) -> bool {
    match expr {
        Expr::Apply(Function::Conjugate | Function::Re | Function::Im | Function::Arg, items) => {
            matches!(items.as_slice(), [Expr::Symbol(_)])
        }
        _ => false,
    }
}

/// The same with a name of its own for each such part.
fn parts_named(expr: &Expr) -> Expr {
    match expr {
        Expr::Apply(function, items) if is_part_of_name(expr) => match items.as_slice() {
            [Expr::Symbol(name)] => Expr::Symbol(format!("{function:?} {name}")),
            _ => expr.clone(),
        },
        _ => tree::rebuilt(expr, parts_named),
    }
}

fn without_percent(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Percent(a) => Some((**a).clone()),
        Expr::Negate(a) => without_percent(a).map(tree::negated),
        _ => None,
    }
}

/// Numerals with bases: by value if both name theirs; a plain number is taken for the numeral with the base left away.
fn numerals(a: &Expr, b: &Expr) -> Option<Option<Rule>> {
    let same = match (a, b) {
        (Expr::Based(x, m), Expr::Based(y, n)) => {
            super::evaluate::based(x, *m).is_some_and(|value| super::evaluate::based(y, *n) == Some(value))
        }
        (Expr::Based(digits, _), Expr::Number(number)) | (Expr::Number(number), Expr::Based(digits, _)) => {
            digits.value == number.value
        }
        _ => return None,
    };
    Some(same.then_some(Rule::Number))
}
