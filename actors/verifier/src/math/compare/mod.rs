//! Whether two mathematical objects mean the same.
//!
//! **Contract.** [`equal`] is symmetric and reflexive, and depends on nothing but its arguments: every limit is a number of steps or
//! a size. What it cannot decide within them is [`OverBudget`], neither equal nor different.
//!
//! **Order.** Cheap before dear, exact before approximate. Two objects of the same form are equal at once. Then, by what they
//! are: words; relations; sets, lists, tuples and intervals; matrices; and at the bottom scalars, which [`notation`] and [`scalar`] decide:
//! exact numbers ([`exact`], [`surd`]), rational functions in prime fields ([`modular`]), then floating point with error
//! bounds: double precision ([`fast`]) to reject, many digits ([`precise`]) to accept.
//!
//! **Meaning.** Names are real unless the imaginary unit occurs. Two expressions are equal if they agree wherever both are
//! defined: `\ln x^2` is `2\ln x`, but `\sqrt{x^2}` is not `x`.

mod collections;
mod elementary;
mod evaluate;
mod exact;
mod fast;
mod fixed_point;
mod fraction;
mod interval;
mod matrix;
mod modular;
mod names;
mod notation;
mod numeric;
mod points;
mod precise;
mod proportional;
mod real;
mod region;
mod relations;
mod scalar;
mod solve;
mod surd;
mod text;
mod tree;
mod units;

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Budget, Expr, OverBudget, Relation};
pub(super) use tree::substituted;

/// What the parser adds to the name of a parameter that is said to be any integer.
pub(super) const INTEGER_MARK: &str = "∈ℤ";

/// How answers are compared.
///
/// ```
/// use counterpoint_verifier::math::{Budget, Compare, equal, parse};
///
/// let same = |truth: &str, answer: &str, options: &Compare| {
///     let mut budget = Budget::default();
///     let (truth, answer) = (parse(truth, &mut budget).unwrap(), parse(answer, &mut budget).unwrap());
///     equal(&truth, &answer, options, &mut budget).unwrap().is_some()
/// };
/// let options = Compare::default();
/// assert!(same(r"\frac{1}{3}", "0.333333", &options));
/// assert!(!same(r"\frac{1}{3}", "0.33", &options));
/// assert!(same(r"\frac{1}{3}", "0.33", &Compare { decimals: 2, ..options.clone() }));
/// assert!(same("1000/3", "333.3", &Compare { relative_tolerance: 1e-3, ..options.clone() }));
/// assert!(same(r"50\%", "50", &options));
/// assert!(!same(r"50\%", "50", &Compare { bare_percent: false, ..options }));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compare {
    /// Where one of two numbers is a decimal, they are equal if they round to the same number of so many decimals. A value
    /// below 0.001 must agree to one part in a hundred besides, and a whole number only equals itself. Default: 6.
    pub decimals: u32,
    /// Where one of two numbers is a decimal, they are equal too if they differ by no more than this share of the larger one.
    /// Default: 0, which is never.
    pub relative_tolerance: f64,
    /// Whether `p%` equals the number p without a sign, besides p/100. Default: true.
    pub bare_percent: bool,
    /// Whether two units that are both known must fit: `5 cm` is then neither `5 m` nor `5 kg`, and is `50 mm`. A unit that only
    /// one of the two has, or that is not known, never counts. Default: true.
    pub units: bool,
}

impl Default for Compare {
    fn default() -> Self {
        Self { decimals: 6, relative_tolerance: 0.0, bare_percent: true, units: true }
    }
}

/// Which rule found two objects equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// They have the same form.
    Form,
    /// They are the same words.
    Words,
    /// They are the same choice.
    Choice,
    /// They are the same exact number.
    Number,
    /// A decimal and a number agree as far as they must.
    Decimal,
    /// A percentage and a number.
    Percentage,
    /// An angle in degrees and a number.
    Degrees,
    /// Quantities in different units.
    Unit,
    /// Rational functions that agree in prime fields.
    Identity,
    /// Constants that agree to many digits.
    Digits,
    /// Functions that agree to many digits at several points.
    Points,
    /// Sets or lists with the same elements.
    Set,
    /// Tuples with the same components.
    Tuple,
    /// Sets of real numbers: intervals and what is made of them, inequalities in one unknown.
    Region,
    /// Names that are given the same values.
    Assignment,
    /// Equations of the same solutions.
    Equation,
    /// Inequalities of the same solutions.
    Inequality,
    /// Matrices with the same entries.
    Matrix,
    /// Ratios in proportion.
    Ratio,
    /// They are made of equal parts in the same way.
    Parts,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "same form",
            Self::Words => "same words",
            Self::Choice => "same choice",
            Self::Number => "same exact number",
            Self::Decimal => "decimal within its precision",
            Self::Percentage => "percentage",
            Self::Degrees => "angle in degrees",
            Self::Unit => "units converted",
            Self::Identity => "identical rational functions, by prime fields",
            Self::Digits => "constants agree to many digits",
            Self::Points => "functions agree to many digits at several points",
            Self::Set => "same elements",
            Self::Tuple => "same components",
            Self::Region => "same set of real numbers",
            Self::Assignment => "same values of the same names",
            Self::Equation => "equivalent equations",
            Self::Inequality => "equivalent inequalities",
            Self::Matrix => "same entries",
            Self::Ratio => "in proportion",
            Self::Parts => "equal parts",
        })
    }
}

/// `None`: they differ.
type Verdict = Result<Option<Rule>, OverBudget>;

/// Whether truth and answer mean the same, and by which rule.
///
/// # Errors
/// [`OverBudget`] if it cannot be decided within the budget.
pub fn equal(truth: &Expr, answer: &Expr, options: &Compare, budget: &mut Budget) -> Verdict {
    tree::admit(truth, budget)?;
    tree::admit(answer, budget)?;
    match same_parameter(truth, answer) {
        Some((truth, answer)) => Comparison { options, budget }.same(&truth, &answer),
        None => Comparison { options, budget }.same(truth, answer),
    }
}

/// `2k\pi` for all integers k is `2n\pi` for all integers n, and where only one says that they are integers the names must agree.
/// `None` if neither says so.
fn same_parameter(a: &Expr, b: &Expr) -> Option<(Expr, Expr)> {
    let marked =
        |expr: &Expr| tree::names_in(expr).into_iter().find(|name| name.ends_with(INTEGER_MARK)).map(str::to_owned);
    match (marked(a), marked(b)) {
        (None, None) => None,
        (Some(name), Some(other)) => Some((a.clone(), substituted(b, &other, &Expr::Symbol(name)))),
        (Some(name), None) => Some((substituted(a, &name, &counterpart(&name, a, b)), b.clone())),
        (None, Some(name)) => Some((a.clone(), substituted(b, &name, &counterpart(&name, b, a)))),
    }
}

/// What the integer parameter of one expression is called in the other: the one letter for whole numbers that only the other has.
fn counterpart(marked: &str, own: &Expr, other: &Expr) -> Expr {
    let name = marked.trim_end_matches(INTEGER_MARK);
    let (own, other) = (tree::names_in(own), tree::names_in(other));
    let mut free = other.iter().filter(|name| !own.contains(name));
    match (free.next(), free.next()) {
        (Some(free @ &("k" | "n" | "m" | "l" | "j" | "p" | "K" | "N" | "t")), None) => Expr::Symbol((*free).to_owned()),
        _ => Expr::Symbol(name.to_owned()),
    }
}

/// One comparison under way. The rules are its methods, each file those of one kind of object.
struct Comparison<'c> {
    options: &'c Compare,
    budget: &'c mut Budget,
}

impl Comparison<'_> {
    fn same(&mut self, a: &Expr, b: &Expr) -> Verdict {
        self.budget.spend(1)?;
        if a == b {
            return Ok(Some(Rule::Form));
        }
        let (a, b) = (plain(a), plain(b));
        let (a, b) = (&*a, &*b);
        if a == b {
            return Ok(Some(Rule::Form));
        }
        if let Expr::Choice(..) = a {
            return self.choice(a, b);
        }
        if let Expr::Choice(..) = b {
            return self.choice(b, a);
        }
        if let Some(verdict) = self.words(a, b) {
            return verdict;
        }
        if is_claim(a) || is_claim(b) {
            return self.claims(a, b);
        }
        if is_collection(a) || is_collection(b) {
            return self.collections(a, b);
        }
        if let Some(verdict) = self.matrices(a, b)? {
            return Ok(verdict);
        }
        self.scalars(a, b)
    }

    fn is_same(&mut self, a: &Expr, b: &Expr) -> Result<bool, OverBudget> {
        Ok(self.same(a, b)?.is_some())
    }

    /// The letter decides where both have one, or where the other is just a letter.
    fn choice(&mut self, choice: &Expr, other: &Expr) -> Verdict {
        let Expr::Choice(letter, content) = choice else { return Ok(None) };
        let is_letter = |name: &str| {
            let mut letters = name.chars();
            letters.next().is_some_and(|first| first.eq_ignore_ascii_case(letter)) && letters.next().is_none()
        };
        let chosen = match other {
            Expr::Choice(other, _) => letter.eq_ignore_ascii_case(other),
            Expr::Symbol(name) | Expr::Text(name) if text::folded(name).chars().count() == 1 => {
                is_letter(&text::folded(name))
            }
            Expr::Constant(constant) => text::letter_of(*constant).is_some_and(is_letter),
            other => return self.same(content, other),
        };
        Ok(chosen.then_some(Rule::Choice))
    }

    /// Whether the two are the same operation on equal parts: for objects that have no value of their own.
    fn same_parts(&mut self, a: &Expr, b: &Expr) -> Verdict {
        let alike = std::mem::discriminant(a) == std::mem::discriminant(b) && same_labels(a, b);
        let (left, right) = (parts(a), parts(b));
        if !alike || left.len() != right.len() || left.is_empty() {
            return Ok(None);
        }
        for (left, right) in left.into_iter().zip(right) {
            if !self.is_same(left, right)? {
                return Ok(None);
            }
        }
        Ok(Some(Rule::Parts))
    }
}

/// What a node is besides its parts.
fn same_labels(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Apply(a, _), Expr::Apply(b, _)) => a == b,
        (Expr::Bracketed(a, _, c), Expr::Bracketed(b, _, d)) => a == b && c == d,
        (Expr::Relation(_, a), Expr::Relation(_, b)) => a.iter().map(|(r, _)| r).eq(b.iter().map(|(r, _)| r)),
        (Expr::Matrix(a), Expr::Matrix(b)) => a.iter().map(Vec::len).eq(b.iter().map(Vec::len)),
        (Expr::Call(a, _), Expr::Call(b, _)) => a == b,
        (Expr::Big(a, c, d, _), Expr::Big(b, e, f, _)) => {
            a == b && c.is_some() == e.is_some() && d.is_some() == f.is_some()
        }
        (Expr::Choice(a, _), Expr::Choice(b, _)) => a == b,
        (Expr::Unit(_, a), Expr::Unit(_, b)) => a == b,
        _ => true,
    }
}

fn parts(expr: &Expr) -> Vec<&Expr> {
    let mut parts = Vec::new();
    expr.for_each_part(&mut |part| parts.push(part));
    parts
}

/// The object without what does not change its meaning: brackets around one item, the approximation after an exact value. A value
/// with ± becomes the list of its values.
fn plain(expr: &Expr) -> Cow<'_, Expr> {
    match expr {
        Expr::Bracketed(_, items, _) | Expr::List(items) if items.len() == 1 => plain(&items[0]),
        Expr::Relation(first, rest) => without_approximation(expr, first, rest),
        // A tuple stands for a column as for a row.
        Expr::Power(base, exponent)
            if tree::is_transposition(exponent)
                && matches!(**base, Expr::Bracketed(_, ref items, _) if items.len() > 1) =>
        {
            Cow::Borrowed(base)
        }
        _ => match tree::signs_expanded(expr) {
            Some(values) => Cow::Owned(Expr::List(values)),
            None => Cow::Borrowed(expr),
        },
    }
}

/// `\frac{1}{3} ≈ 0.33` is a third, but `x ≈ 0.33` says what x is.
fn without_approximation<'e>(expr: &'e Expr, first: &'e Expr, rest: &'e [(Relation, Expr)]) -> Cow<'e, Expr> {
    let Some(cut) = rest.iter().position(|(relation, _)| *relation == Relation::Approximately) else {
        return Cow::Borrowed(expr);
    };
    match (cut, rest) {
        (0, [(_, value), ..]) if tree::is_name(first) => {
            Cow::Owned(Expr::Relation(Box::new(first.clone()), vec![(Relation::Equal, value.clone())]))
        }
        (0, _) => plain(first),
        _ => Cow::Owned(Expr::Relation(Box::new(first.clone()), rest[..cut].to_vec())),
    }
}

/// Whether it says something of names rather than being a value.
fn is_claim(expr: &Expr) -> bool {
    match expr {
        Expr::Relation(..) => true,
        Expr::List(items) | Expr::Set(items) => items.iter().any(is_claim),
        _ => false,
    }
}

fn is_collection(expr: &Expr) -> bool {
    match expr {
        Expr::Power(base, _) => matches!(**base, Expr::NumberSet(_)),
        Expr::NumberSet(_) => true,
        _ => lists_items(expr),
    }
}

/// Whether it is written as several things, or as what they are chosen from.
fn lists_items(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Bracketed(..)
            | Expr::Set(_)
            | Expr::List(_)
            | Expr::Union(_)
            | Expr::Intersection(_)
            | Expr::Difference(..)
            | Expr::Builder(..)
    )
}
