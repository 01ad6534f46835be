//! One walk over an expression for every kind of number it can be computed in.
//!
//! A [`Domain`] is a kind of number: exact ones, a finite field, floating point with error bounds. What a node means (a
//! percentage, degrees, a mixed number, a logarithm without a base) is said once, here.
//!
//! A function that has a name only, `f(x)`, is computed as a fixed rational function chosen by its name: it agrees with itself
//! on equal arguments, however they are written, and with nothing else.

use dashu::base::BitTest;
use dashu::integer::IBig;
use dashu::rational::RBig;

use super::exact::Exact;
use crate::math::{Budget, Constant, Expr, Function, OverBudget, Relation};

/// Why an expression has no value in a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The steps are spent: the whole judgement is void.
    OverBudget,
    /// A number would be larger than exact arithmetic makes them.
    TooBig,
    /// There is no value: a division by zero, the logarithm of zero.
    Undefined,
    /// The precision does not tell which way it is.
    Unsure,
    /// The domain has no such operation.
    Unsupported,
}

impl From<OverBudget> for Failure {
    fn from(_: OverBudget) -> Self {
        Self::OverBudget
    }
}

pub(super) type Outcome<T> = Result<T, Failure>;

/// A kind of number. Every operation draws on the budget for what it costs.
pub(super) trait Domain {
    type Value: Clone;

    fn budget(&mut self) -> &mut Budget;
    fn rational(&mut self, value: &RBig) -> Outcome<Self::Value>;
    fn constant(&mut self, constant: Constant) -> Outcome<Self::Value>;
    fn symbol(&mut self, name: &str) -> Outcome<Self::Value>;
    fn add(&mut self, a: &Self::Value, b: &Self::Value) -> Outcome<Self::Value>;
    fn multiply(&mut self, a: &Self::Value, b: &Self::Value) -> Outcome<Self::Value>;
    fn divide(&mut self, a: &Self::Value, b: &Self::Value) -> Outcome<Self::Value>;
    fn negate(&mut self, a: &Self::Value) -> Outcome<Self::Value>;
    /// To an exponent that is known exactly. An odd root of a negative real number is the real one.
    fn rational_power(&mut self, base: &Self::Value, exponent: &RBig) -> Outcome<Self::Value>;
    fn power(&mut self, base: &Self::Value, exponent: &Self::Value) -> Outcome<Self::Value>;
    fn function(&mut self, function: Function, arguments: &[Self::Value]) -> Outcome<Self::Value>;
    fn factorial(&mut self, a: &Self::Value) -> Outcome<Self::Value>;
    /// The integer that the value is exactly, if it is one and small.
    fn integer(&self, a: &Self::Value) -> Option<i64>;
    /// Gives a name a value until [`Domain::release`]; of two bindings of one name the later counts.
    fn bind(&mut self, name: &str, value: i64) -> Outcome<()>;
    fn release(&mut self);
}

/// The most rows of a determinant that is computed.
const LARGEST_DETERMINANT: usize = 4;

/// The most terms of a sum or product that is written out.
const MOST_ADDENDS: i64 = 256;

/// The largest lower entry of a binomial coefficient whose upper entry need not be a number.
const LARGEST_LOWER: i64 = 64;

/// The value of an expression in a domain.
pub(super) fn evaluate<D: Domain>(expr: &Expr, domain: &mut D) -> Outcome<D::Value> {
    domain.budget().spend(1)?;
    match expr {
        Expr::Number(number) => domain.rational(&number.value),
        Expr::Constant(constant) => domain.constant(*constant),
        Expr::Symbol(name) | Expr::Text(name) => domain.symbol(name),
        Expr::Sum(items) => fold(items, domain, D::add),
        Expr::Product(items) => fold(items, domain, D::multiply),
        Expr::Negate(a) => {
            let a = evaluate(a, domain)?;
            domain.negate(&a)
        }
        Expr::Quotient(a, b) => {
            let (a, b) = (evaluate(a, domain)?, evaluate(b, domain)?);
            domain.divide(&a, &b)
        }
        Expr::Mixed(whole, part) => mixed(whole, part, domain),
        Expr::Power(base, exponent) => power(base, exponent, domain),
        Expr::Root(radicand, index) => root(radicand, index, domain),
        Expr::Apply(Function::Det, items) => match items.as_slice() {
            [Expr::Matrix(rows)]
                if rows.len() <= LARGEST_DETERMINANT && rows.iter().all(|row| row.len() == rows.len()) =>
            {
                evaluate(&determinant(rows), domain)
            }
            _ => Err(Failure::Unsupported),
        },
        Expr::Apply(function, arguments) => apply(*function, arguments, domain),
        Expr::Factorial(a) => {
            let a = evaluate(a, domain)?;
            domain.factorial(&a)
        }
        Expr::Binomial(n, k) => binomial(n, k, domain),
        Expr::Percent(a) => scaled(a, &RBig::from_parts(IBig::ONE, 100u8.into()), domain),
        Expr::Degrees(a) => {
            let a = scaled(a, &RBig::from_parts(IBig::ONE, 180u8.into()), domain)?;
            let pi = domain.constant(Constant::Pi)?;
            domain.multiply(&a, &pi)
        }
        Expr::Unit(a, _) => evaluate(a, domain),
        Expr::Ratio(parts) if parts.len() == 2 => {
            let (a, b) = (evaluate(&parts[0], domain)?, evaluate(&parts[1], domain)?);
            domain.divide(&a, &b)
        }
        Expr::Based(number, base) => domain.rational(&based(number, *base).ok_or(Failure::Unsupported)?),
        Expr::Call(name, arguments) => {
            let arguments = evaluate_all(arguments, domain)?;
            opaque(name, &arguments, domain)
        }
        Expr::Big(operator, lower, upper, body) => big(operator, lower.as_deref(), upper.as_deref(), body, domain),
        Expr::Bracketed(_, items, _) if items.len() == 1 => evaluate(&items[0], domain),
        _ => Err(Failure::Unsupported),
    }
}

/// By its first row; 1 for no rows.
fn determinant(rows: &[Vec<Expr>]) -> Expr {
    let Some((first, rest)) = rows.split_first() else {
        let value = RBig::ONE;
        return Expr::Number(crate::math::Number { value, decimals: None, repeating: false });
    };
    let cofactor = |(column, entry): (usize, &Expr)| {
        let without =
            |row: &Vec<Expr>| row.iter().enumerate().filter(|(c, _)| *c != column).map(|(_, e)| e.clone()).collect();
        let minor = determinant(&rest.iter().map(without).collect::<Vec<_>>());
        let term = Expr::Product(vec![entry.clone(), minor]);
        if column % 2 == 0 { term } else { Expr::Negate(Box::new(term)) }
    };
    Expr::Sum(first.iter().enumerate().map(cofactor).collect())
}

fn evaluate_all<D: Domain>(items: &[Expr], domain: &mut D) -> Outcome<Vec<D::Value>> {
    items.iter().map(|item| evaluate(item, domain)).collect()
}

type Operation<D> = fn(&mut D, &<D as Domain>::Value, &<D as Domain>::Value) -> Outcome<<D as Domain>::Value>;

fn fold<D: Domain>(items: &[Expr], domain: &mut D, operation: Operation<D>) -> Outcome<D::Value> {
    let (first, rest) = items.split_first().ok_or(Failure::Unsupported)?;
    let mut total = evaluate(first, domain)?;
    for item in rest {
        let item = evaluate(item, domain)?;
        total = operation(domain, &total, &item)?;
    }
    Ok(total)
}

fn scaled<D: Domain>(a: &Expr, factor: &RBig, domain: &mut D) -> Outcome<D::Value> {
    let a = evaluate(a, domain)?;
    let factor = domain.rational(factor)?;
    domain.multiply(&a, &factor)
}

/// The fraction counts away from zero: −3½ is −3.5, also where the sign stands within.
fn mixed<D: Domain>(whole: &Expr, part: &Expr, domain: &mut D) -> Outcome<D::Value> {
    let negative = matches!(whole, Expr::Negate(_));
    let (whole, mut part) = (evaluate(whole, domain)?, evaluate(part, domain)?);
    if negative {
        part = domain.negate(&part)?;
    }
    domain.add(&whole, &part)
}

fn power<D: Domain>(base: &Expr, exponent: &Expr, domain: &mut D) -> Outcome<D::Value> {
    if let Some(known) = exact_exponent(exponent, domain)? {
        let base = evaluate(base, domain)?;
        return domain.rational_power(&base, &known);
    }
    let exponent = evaluate(exponent, domain)?;
    if matches!(base, Expr::Constant(Constant::E)) {
        return domain.function(Function::Exp, &[exponent]);
    }
    let base = evaluate(base, domain)?;
    domain.power(&base, &exponent)
}

fn root<D: Domain>(radicand: &Expr, index: &Expr, domain: &mut D) -> Outcome<D::Value> {
    let radicand = evaluate(radicand, domain)?;
    if let Some(known) = exact_exponent(index, domain)? {
        if known.is_zero() {
            return Err(Failure::Undefined);
        }
        return domain.rational_power(&radicand, &(RBig::ONE / known));
    }
    let index = evaluate(index, domain)?;
    let one = domain.rational(&RBig::ONE)?;
    let exponent = domain.divide(&one, &index)?;
    domain.power(&radicand, &exponent)
}

/// The exponent as a rational number, if it is one without any name in it.
fn exact_exponent<D: Domain>(exponent: &Expr, domain: &mut D) -> Outcome<Option<RBig>> {
    match exponent {
        Expr::Number(number) => return Ok(Some(number.value.clone())),
        Expr::Symbol(_) | Expr::Constant(_) => return Ok(None),
        _ => {}
    }
    match evaluate(exponent, &mut Exact::of_constants(domain.budget())) {
        Ok(value) => Ok(value.into_rational()),
        Err(failure @ (Failure::OverBudget | Failure::TooBig | Failure::Undefined)) => Err(failure),
        Err(Failure::Unsure | Failure::Unsupported) => Ok(None),
    }
}

fn apply<D: Domain>(function: Function, arguments: &[Expr], domain: &mut D) -> Outcome<D::Value> {
    let mut arguments = evaluate_all(arguments, domain)?;
    // The logarithm to base 10 is what `\log` means where no base is written.
    if function == Function::Log && arguments.len() == 1 {
        arguments.push(domain.rational(&RBig::from(10))?);
    }
    domain.function(function, &arguments)
}

fn binomial<D: Domain>(n: &Expr, k: &Expr, domain: &mut D) -> Outcome<D::Value> {
    let (n, k) = (evaluate(n, domain)?, evaluate(k, domain)?);
    let mut lower = domain.integer(&k).ok_or(Failure::Unsupported)?;
    if let Some(upper) = domain.integer(&n)
        && upper >= 0
    {
        // The symmetric one has fewer factors; outside of 0..=n there are none to choose.
        lower = lower.min(upper.saturating_sub(lower));
    } else if lower > LARGEST_LOWER {
        return Err(Failure::Unsupported);
    }
    if lower < 0 {
        return domain.rational(&RBig::ZERO);
    }
    let mut product = domain.rational(&RBig::ONE)?;
    for step in 0..lower {
        domain.budget().spend(1)?;
        let back = domain.rational(&RBig::from(-step))?;
        let factor = domain.add(&n, &back)?;
        let divisor = domain.rational(&RBig::from(step + 1))?;
        product = domain.multiply(&product, &factor)?;
        product = domain.divide(&product, &divisor)?;
    }
    Ok(product)
}

/// The value of a numeral to a base; `None` where a digit does not belong to it.
pub(super) fn based(number: &crate::math::Number, base: u32) -> Option<RBig> {
    let (digits, denominator) = number.value.clone().into_parts();
    if !denominator.is_one() || !(2..=36).contains(&base) || digits.bit_len() > 4096 {
        return None;
    }
    let text = digits.to_string();
    IBig::from_str_radix(&text, base).ok().map(RBig::from)
}

/// A sum or product with both ends known is written out; anything else is itself only.
fn big<D: Domain>(
    operator: &str,
    lower: Option<&Expr>,
    upper: Option<&Expr>,
    body: &Expr,
    domain: &mut D,
) -> Outcome<D::Value> {
    if let (Some((name, start)), Some(end)) = (lower.and_then(counter), upper) {
        let start = evaluate(start, domain)?;
        let end = evaluate(end, domain)?;
        let (start, end) = (domain.integer(&start), domain.integer(&end));
        let operation: Option<Operation<D>> = match operator {
            "sum" => Some(D::add),
            "prod" => Some(D::multiply),
            _ => None,
        };
        if let (Some(start), Some(end), Some(operation)) = (start, end, operation) {
            if end.saturating_sub(start) >= MOST_ADDENDS {
                return Err(Failure::TooBig);
            }
            return written_out(name, start..=end, body, domain, operation, operator == "sum");
        }
    }
    let mut parts = Vec::new();
    for side in [lower, upper].into_iter().flatten() {
        parts.push(match side {
            Expr::Relation(first, rest) => {
                let mut values = vec![evaluate(first, domain)?];
                for (_, other) in rest {
                    values.push(evaluate(other, domain)?);
                }
                opaque("bounds", &values, domain)?
            }
            side => match evaluate(side, domain) {
                // An infinite end is a mark like any other.
                Err(Failure::Unsupported) => opaque(&format!("{side:?}"), &[], domain)?,
                other => other?,
            },
        });
    }
    parts.push(evaluate(body, domain)?);
    opaque(operator, &parts, domain)
}

/// `k = 1` below a sum: the name that counts, and where it starts.
fn counter(lower: &Expr) -> Option<(&str, &Expr)> {
    match lower {
        Expr::Relation(first, rest) => match (&**first, rest.as_slice()) {
            (Expr::Symbol(name), [(Relation::Equal, start)]) => Some((name, start)),
            _ => None,
        },
        _ => None,
    }
}

fn written_out<D: Domain>(
    name: &str,
    range: std::ops::RangeInclusive<i64>,
    body: &Expr,
    domain: &mut D,
    operation: Operation<D>,
    adds: bool,
) -> Outcome<D::Value> {
    let start = if adds { RBig::ZERO } else { RBig::ONE };
    let mut total = domain.rational(&start)?;
    for step in range {
        domain.bind(name, step)?;
        let item = evaluate(body, domain);
        domain.release();
        total = operation(domain, &total, &item?)?;
    }
    Ok(total)
}

/// The stand-in for a function that nothing is known of: with u a combination of the arguments, c·u + 1/(u² + d).
fn opaque<D: Domain>(name: &str, arguments: &[D::Value], domain: &mut D) -> Outcome<D::Value> {
    let mut seed = Seed::of(name);
    let mut u = domain.rational(&seed.next())?;
    for argument in arguments {
        let weight = domain.rational(&seed.next())?;
        let term = domain.multiply(&weight, argument)?;
        u = domain.add(&u, &term)?;
    }
    let (factor, offset) = (domain.rational(&seed.next())?, domain.rational(&seed.next())?);
    let linear = domain.multiply(&factor, &u)?;
    let square = domain.multiply(&u, &u)?;
    let below = domain.add(&square, &offset)?;
    let one = domain.rational(&RBig::ONE)?;
    let curved = domain.divide(&one, &below)?;
    domain.add(&linear, &curved)
}

/// Positive rational numbers that depend on a text only (FNV-1a, then multiplications).
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn of(text: &str) -> Self {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash)
    }

    pub(super) fn next(&mut self) -> RBig {
        self.0 = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = self.0 >> 40;
        RBig::from_parts(IBig::from(bits % 4093 + 211), 1031u16.into())
    }
}

/// How many bits an exact number takes.
pub(super) fn bits_of(value: &RBig) -> u64 {
    (value.numerator().bit_len() + value.denominator().bit_len()) as u64
}
