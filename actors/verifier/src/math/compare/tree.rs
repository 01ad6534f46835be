//! Expressions as trees: visiting, rebuilding, replacing.

use crate::math::{Budget, DEEPEST, Expr, Function, OverBudget};

/// The same expression with `change` applied to each direct part.
pub(super) fn rebuilt(expr: &Expr, mut change: impl FnMut(&Expr) -> Expr) -> Expr {
    fn all(items: &[Expr], change: &mut impl FnMut(&Expr) -> Expr) -> Vec<Expr> {
        items.iter().map(change).collect()
    }
    fn one(item: &Expr, change: &mut impl FnMut(&Expr) -> Expr) -> Box<Expr> {
        Box::new(change(item))
    }
    let change = &mut change;
    match expr {
        Expr::Number(_)
        | Expr::Constant(_)
        | Expr::Symbol(_)
        | Expr::NumberSet(_)
        | Expr::Text(_)
        | Expr::Based(..) => expr.clone(),
        Expr::Sum(items) => Expr::Sum(all(items, change)),
        Expr::Product(items) => Expr::Product(all(items, change)),
        Expr::Apply(function, items) => Expr::Apply(*function, all(items, change)),
        Expr::Bracketed(left, items, right) => Expr::Bracketed(*left, all(items, change), *right),
        Expr::Set(items) => Expr::Set(all(items, change)),
        Expr::List(items) => Expr::List(all(items, change)),
        Expr::Union(items) => Expr::Union(all(items, change)),
        Expr::Intersection(items) => Expr::Intersection(all(items, change)),
        Expr::Ratio(items) => Expr::Ratio(all(items, change)),
        Expr::Call(name, items) => Expr::Call(name.clone(), all(items, change)),
        Expr::Negate(a) => Expr::Negate(one(a, change)),
        Expr::Factorial(a) => Expr::Factorial(one(a, change)),
        Expr::Percent(a) => Expr::Percent(one(a, change)),
        Expr::Degrees(a) => Expr::Degrees(one(a, change)),
        Expr::Unit(a, unit) => Expr::Unit(one(a, change), unit.clone()),
        Expr::Choice(letter, a) => Expr::Choice(*letter, one(a, change)),
        Expr::Quotient(a, b) => Expr::Quotient(one(a, change), one(b, change)),
        Expr::Mixed(a, b) => Expr::Mixed(one(a, change), one(b, change)),
        Expr::Power(a, b) => Expr::Power(one(a, change), one(b, change)),
        Expr::Root(a, b) => Expr::Root(one(a, change), one(b, change)),
        Expr::Binomial(a, b) => Expr::Binomial(one(a, change), one(b, change)),
        Expr::Difference(a, b) => Expr::Difference(one(a, change), one(b, change)),
        Expr::PlusMinus(a, b) => Expr::PlusMinus(a.as_ref().map(|a| one(a, change)), one(b, change)),
        Expr::Builder(head, conditions) => Expr::Builder(one(head, change), all(conditions, change)),
        Expr::Relation(first, rest) => {
            let first = one(first, change);
            Expr::Relation(first, rest.iter().map(|(relation, side)| (*relation, change(side))).collect())
        }
        Expr::Matrix(rows) => Expr::Matrix(rows.iter().map(|row| all(row, change)).collect()),
        Expr::Big(operator, lower, upper, body) => {
            let lower = lower.as_ref().map(|side| one(side, change));
            let upper = upper.as_ref().map(|side| one(side, change));
            Expr::Big(operator.clone(), lower, upper, one(body, change))
        }
        Expr::Piecewise(cases) => {
            Expr::Piecewise(cases.iter().map(|(value, condition)| (change(value), change(condition))).collect())
        }
    }
}

/// Whether the expression or any part of it is such a node. Past [`DEEPEST`] levels nothing is looked at.
pub(super) fn contains(expr: &Expr, is_such: &impl Fn(&Expr) -> bool) -> bool {
    if is_such(expr) {
        return true;
    }
    let mut found = false;
    expr.for_each_part(&mut |part| found = found || contains(part, is_such));
    found
}

/// Refuses what nests deeper than [`DEEPEST`], since comparing recurses; pays for each node otherwise.
pub(super) fn admit(expr: &Expr, budget: &mut Budget) -> Result<(), OverBudget> {
    fn walk(expr: &Expr, levels: usize, budget: &mut Budget) -> Result<(), OverBudget> {
        budget.spend(1)?;
        let levels = levels.checked_sub(1).ok_or(OverBudget)?;
        let mut outcome = Ok(());
        expr.for_each_part(&mut |part| {
            if outcome.is_ok() {
                outcome = walk(part, levels, budget);
            }
        });
        outcome
    }
    walk(expr, DEEPEST, budget)
}

/// Every occurrence of a name replaced by a value.
pub(in crate::math) fn substituted(expr: &Expr, name: &str, value: &Expr) -> Expr {
    match expr {
        Expr::Symbol(known) if known == name => value.clone(),
        _ => rebuilt(expr, |part| substituted(part, name, value)),
    }
}

/// The names that occur in an expression, each once, in order of first occurrence.
pub(super) fn names_in(expr: &Expr) -> Vec<&str> {
    fn collect<'e>(expr: &'e Expr, names: &mut Vec<&'e str>) {
        if let Expr::Symbol(name) = expr
            && !names.contains(&name.as_str())
        {
            names.push(name);
        }
        expr.for_each_part(&mut |part| collect(part, names));
    }
    let mut names = Vec::new();
    collect(expr, &mut names);
    names
}

/// The values of an expression with ± in it: each sign for itself, but all together if one of them is ∓. `None` without any.
///
/// Lists and the like are left alone: their items are expanded one by one. At most so many values are made.
pub(super) fn signs_expanded(expr: &Expr) -> Option<Vec<Expr>> {
    const MOST_SIGNS: usize = 4;
    if !is_arithmetic(expr) {
        return None;
    }
    let mut count = 0;
    let mut opposite = false;
    count_signs(expr, &mut count, &mut opposite);
    if count == 0 || count > MOST_SIGNS {
        return None;
    }
    let patterns: Vec<u32> = if opposite { vec![0, u32::MAX] } else { (0..1 << count).collect() };
    Some(patterns.into_iter().map(|pattern| chosen(expr, pattern, &mut 0)).collect())
}

fn is_arithmetic(expr: &Expr) -> bool {
    let other = matches!(expr, Expr::Relation(..) | Expr::Matrix(_) | Expr::Piecewise(_) | Expr::Choice(..));
    !other && !super::lists_items(expr)
}

fn count_signs(expr: &Expr, count: &mut usize, opposite: &mut bool) {
    if let Expr::PlusMinus(_, b) = expr {
        *count += 1;
        // a ∓ b is written a ± (−b).
        *opposite |= matches!(**b, Expr::Negate(_));
    }
    expr.for_each_part(&mut |part| count_signs(part, count, opposite));
}

/// Bit n of the pattern: whether the n-th ± is a minus.
fn chosen(expr: &Expr, pattern: u32, next: &mut usize) -> Expr {
    let Expr::PlusMinus(a, b) = expr else { return rebuilt(expr, |part| chosen(part, pattern, next)) };
    let minus = pattern >> *next & 1 == 1;
    *next += 1;
    let a = a.as_ref().map(|a| chosen(a, pattern, next));
    let b = chosen(b, pattern, next);
    let b = if minus { Expr::Negate(Box::new(b)) } else { b };
    match a {
        Some(a) => Expr::Sum(vec![a, b]),
        None => b,
    }
}

/// The angles of an expression as bare numbers: degree signs taken off wherever no function applies to them.
pub(super) fn without_degrees(expr: &Expr) -> Expr {
    match expr {
        Expr::Degrees(a) => without_degrees(a),
        Expr::Apply(..) => expr.clone(),
        _ => rebuilt(expr, without_degrees),
    }
}

pub(super) fn has_bare_degrees(expr: &Expr) -> bool {
    match expr {
        Expr::Degrees(_) => true,
        Expr::Apply(..) => false,
        _ => {
            let mut found = false;
            expr.for_each_part(&mut |part| found = found || has_bare_degrees(part));
            found
        }
    }
}

pub(super) fn negated(a: Expr) -> Expr {
    Expr::Negate(Box::new(a))
}

pub(super) fn minus(a: &Expr, b: &Expr) -> Expr {
    Expr::Sum(vec![a.clone(), negated(b.clone())])
}

/// `T` or `\top` as an exponent.
pub(super) fn is_transposition(exponent: &Expr) -> bool {
    matches!(exponent, Expr::Symbol(name) if name == "T" || name == "top")
}

/// Whether the expression is made of names only, so that an equation with it on one side says what it is: `x`, `f(2)`, `AB`,
/// `a + b`, `|AB|`, `\frac{NO}{BO}`. A function with a name may have numbers for arguments.
pub(super) fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Symbol(_) | Expr::Call(..) | Expr::Text(_) => true,
        Expr::Sum(items) | Expr::Product(items) | Expr::Ratio(items) => items.iter().all(is_name),
        Expr::Big(..) => true,
        Expr::Apply(Function::Det, items) => matches!(items.as_slice(), [Expr::Symbol(_)]),
        Expr::Apply(_, items) => items.iter().all(is_name),
        Expr::Quotient(a, b) => is_name(a) && is_name(b),
        Expr::Degrees(a) => is_name(a),
        Expr::Bracketed(_, items, _) => items.iter().all(is_name),
        _ => false,
    }
}
