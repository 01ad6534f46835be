//! Matrices and vectors.

use super::{Comparison, Rule, tree};
use crate::math::{Bracket, Constant, Expr, Number, OverBudget};

type Rows = Vec<Vec<Expr>>;

/// The largest matrix that is computed with, and the largest power.
const MOST_ENTRIES: usize = 256;
const LARGEST_POWER: i64 = 8;

impl Comparison<'_> {
    /// `None` unless one of the two is a matrix.
    pub(super) fn matrices(&mut self, a: &Expr, b: &Expr) -> Result<Option<Option<Rule>>, OverBudget> {
        let is_matrix = |part: &Expr| matches!(part, Expr::Matrix(_));
        let (left, right) = (tree::contains(a, &is_matrix), tree::contains(b, &is_matrix));
        if !left && !right {
            return Ok(None);
        }
        match (self.rows(a)?, self.rows(b)?) {
            (Some(a), Some(b)) => self.same_rows(&a, &b).map(Some),
            (Some(rows), None) | (None, Some(rows)) => {
                let other = if left { b } else { a };
                let Some(components) = along_axes(other, rows.len().max(rows[0].len())) else { return Ok(Some(None)) };
                self.vector(&components, &Expr::Matrix(rows)).map(Some)
            }
            // A matrix within, such as under a determinant, leaves a scalar.
            (None, None) => Ok(None),
        }
    }

    fn same_rows(&mut self, a: &Rows, b: &Rows) -> Result<Option<Rule>, OverBudget> {
        if !a.iter().map(Vec::len).eq(b.iter().map(Vec::len)) {
            return Ok(None);
        }
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            if !self.is_same(a, b)? {
                return Ok(None);
            }
        }
        Ok(Some(Rule::Matrix))
    }

    /// A tuple is the vector of its components, as a column or a row.
    pub(super) fn vector(&mut self, items: &[Expr], other: &Expr) -> Result<Option<Rule>, OverBudget> {
        let Some(rows) = self.rows(other)? else { return Ok(None) };
        if let Some(own) = nested_rows(items) {
            return self.same_rows(&own, &rows);
        }
        let entries: Vec<&Expr> = rows.iter().flatten().collect();
        if rows.len() != 1 && rows.first().is_none_or(|row| row.len() != 1) || entries.len() != items.len() {
            return Ok(None);
        }
        for (a, b) in items.iter().zip(entries) {
            if !self.is_same(a, b)? {
                return Ok(None);
            }
        }
        Ok(Some(Rule::Matrix))
    }

    /// The entries of an expression whose value is a matrix.
    fn rows(&mut self, expr: &Expr) -> Result<Option<Rows>, OverBudget> {
        self.budget.spend(1)?;
        match expr {
            Expr::Matrix(rows) => Ok(Some(rows.clone())),
            Expr::Bracketed(Bracket::Square, items, Bracket::Square) => Ok(nested_rows(items)),
            Expr::Negate(a) => {
                let Some(rows) = self.rows(a)? else { return Ok(None) };
                self.each(rows, tree::negated)
            }
            Expr::Quotient(a, b) => {
                let Some(rows) = self.rows(a)? else { return Ok(None) };
                self.each(rows, |entry| Expr::Quotient(Box::new(entry), b.clone()))
            }
            Expr::Sum(items) => self.total(items, Self::added),
            Expr::Product(items) => self.product(items),
            Expr::Power(base, exponent) if tree::is_transposition(exponent) => {
                let Some(rows) = self.rows(base)? else { return Ok(None) };
                let columns = rows.first().map_or(0, Vec::len);
                let column = |at: usize| rows.iter().map(|row| row[at].clone()).collect();
                Ok(Some((0..columns).map(column).collect()))
            }
            Expr::Power(base, exponent) => {
                let Expr::Number(number) = &**exponent else { return Ok(None) };
                let power = i64::try_from(number.value.numerator()).unwrap_or(0);
                if !number.value.is_int() || !(1..=LARGEST_POWER).contains(&power) {
                    return Ok(None);
                }
                let Some(rows) = self.rows(base)? else { return Ok(None) };
                let mut result = rows.clone();
                for _ in 1..power {
                    let Some(next) = self.multiplied(&result, &rows)? else { return Ok(None) };
                    result = next;
                }
                Ok(Some(result))
            }
            _ => Ok(None),
        }
    }

    fn each(&mut self, rows: Rows, change: impl Fn(Expr) -> Expr) -> Result<Option<Rows>, OverBudget> {
        self.budget.spend(rows.iter().map(Vec::len).sum::<usize>() as u64)?;
        Ok(Some(rows.into_iter().map(|row| row.into_iter().map(&change).collect()).collect()))
    }

    fn total(
        &mut self,
        items: &[Expr],
        operation: fn(&mut Self, &Rows, &Rows) -> Result<Option<Rows>, OverBudget>,
    ) -> Result<Option<Rows>, OverBudget> {
        let mut total: Option<Rows> = None;
        for item in items {
            let Some(rows) = self.rows(item)? else { return Ok(None) };
            total = match total {
                None => Some(rows),
                Some(known) => match operation(self, &known, &rows)? {
                    None => return Ok(None),
                    next => next,
                },
            };
        }
        Ok(total)
    }

    /// The matrices multiplied in order, and every other factor to each entry.
    fn product(&mut self, items: &[Expr]) -> Result<Option<Rows>, OverBudget> {
        let is_matrix = |part: &Expr| matches!(part, Expr::Matrix(_));
        let (matrices, scalars): (Vec<_>, Vec<_>) =
            items.iter().cloned().partition(|item| tree::contains(item, &is_matrix));
        let Some(rows) = self.total(&matrices, Self::multiplied)? else { return Ok(None) };
        if scalars.is_empty() {
            return Ok(Some(rows));
        }
        self.each(rows, |entry| {
            let mut factors = scalars.clone();
            factors.push(entry);
            Expr::Product(factors)
        })
    }

    fn added(&mut self, a: &Rows, b: &Rows) -> Result<Option<Rows>, OverBudget> {
        if !a.iter().map(Vec::len).eq(b.iter().map(Vec::len)) {
            return Ok(None);
        }
        self.budget.spend(a.iter().map(Vec::len).sum::<usize>() as u64)?;
        let sum = |(a, b): (&Expr, &Expr)| Expr::Sum(vec![a.clone(), b.clone()]);
        Ok(Some(a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(sum).collect()).collect()))
    }

    fn multiplied(&mut self, a: &Rows, b: &Rows) -> Result<Option<Rows>, OverBudget> {
        let (inner, columns) = (b.len(), b.first().map_or(0, Vec::len));
        let fits = inner > 0 && a.iter().all(|row| row.len() == inner) && b.iter().all(|row| row.len() == columns);
        if !fits || a.len() * columns * inner > MOST_ENTRIES {
            return Ok(None);
        }
        self.budget.spend((a.len() * columns * inner) as u64 * 4)?;
        // Each entry holds copies of what it is made of, which a power of a power would multiply: those are paid for too.
        self.budget.spend((a.iter().chain(b).flatten().map(nodes).sum::<u64>()) / 4)?;
        let entry = |row: &[Expr], column: usize| {
            let terms = row.iter().zip(b).map(|(x, other)| Expr::Product(vec![x.clone(), other[column].clone()]));
            let mut terms: Vec<_> = terms.collect();
            if terms.len() == 1 { terms.remove(0) } else { Expr::Sum(terms) }
        };
        Ok(Some(a.iter().map(|row| (0..columns).map(|column| entry(row, column)).collect()).collect()))
    }
}

/// `4i - 2j + 6k`: the components along two or three axes. One along the second axis must be there: else it is a complex number.
pub(super) fn along_axes(expr: &Expr, dimensions: usize) -> Option<Vec<Expr>> {
    if !(2..=3).contains(&dimensions) {
        return None;
    }
    let axis = |expr: &Expr| match expr {
        Expr::Constant(Constant::I) => Some(0),
        Expr::Symbol(name) if name == "j" => Some(1),
        Expr::Symbol(name) if name == "k" && dimensions == 3 => Some(2),
        _ => None,
    };
    let whole = |value: u8| Expr::Number(Number { value: value.into(), decimals: None, repeating: false });
    let mut components = vec![whole(0); dimensions];
    let terms = match expr {
        Expr::Sum(terms) => terms.as_slice(),
        term => std::slice::from_ref(term),
    };
    for term in terms {
        let (term, negative) = match term {
            Expr::Negate(term) => (&**term, true),
            term => (term, false),
        };
        let (place, size) = match term {
            Expr::Product(factors) => {
                let (last, before) = factors.split_last()?;
                let size = if before.len() == 1 { before[0].clone() } else { Expr::Product(before.to_vec()) };
                (axis(last)?, size)
            }
            term => (axis(term)?, whole(1)),
        };
        components[place] = if negative { tree::negated(size) } else { size };
    }
    tree::contains(expr, &|part| matches!(part, Expr::Symbol(name) if name == "j")).then_some(components)
}

/// `[[1, 2], [3, 4]]`
fn nested_rows(items: &[Expr]) -> Option<Rows> {
    let row = |item: &Expr| match item {
        Expr::Bracketed(Bracket::Square, entries, Bracket::Square) => Some(entries.clone()),
        _ => None,
    };
    let rows: Rows = items.iter().map(row).collect::<Option<_>>()?;
    let width = rows.first()?.len();
    if rows.iter().all(|row| row.len() == width) { Some(rows) } else { None }
}

fn nodes(expr: &Expr) -> u64 {
    let mut count = 1;
    expr.for_each_part(&mut |part| count += nodes(part));
    count
}
