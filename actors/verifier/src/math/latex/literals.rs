//! Literal numbers: decimals, scientific notation, repeating decimals, mixed numbers.

use dashu::base::ParseError as DigitError;
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::input::{Failure, Input, Parsed, accept, expect, fail, next, peek, rest};
use super::token::{Kind, Numeral};
use crate::math::{Expr, Number};

/// The largest exponent of scientific notation that is multiplied out.
const LARGEST_EXPONENT: i32 = 400;

pub(super) fn whole_number(n: u32) -> Expr {
    Expr::Number(Number { value: RBig::from(n), decimals: None, repeating: false })
}

/// A literal; `3 1/2` is a mixed number, `0.\overline{3}` repeats.
pub(super) fn number(i: &mut Input<'_, '_>, numeral: Numeral<'_>) -> Parsed {
    next(i)?;
    i.state.budget.spend(numeral.text.len() as u64 / 16).map_err(|_| Failure::Budget)?;
    if peek(i) == Some(Kind::Overline) && numeral.text.contains('.') {
        return repeating(i, numeral);
    }
    // `0.333…` has no more digits than are written.
    if numeral.text.contains('.') {
        accept(i, Kind::Dots);
    }
    let Some(literal) = literal(numeral) else { return fail(i) };
    let fraction = match rest(i) {
        [above, slash, below, ..]
            if literal.is_whole() && above.spaced && slash.kind == Kind::Divide && !slash.spaced && !below.spaced =>
        {
            match (above.kind, below.kind) {
                (Kind::Number(above), Kind::Number(below)) if above.is_digits() && below.is_digits() => {
                    self::literal(above).zip(self::literal(below)).filter(|(a, b)| a.value < b.value)
                }
                _ => None,
            }
        }
        _ => None,
    };
    let Some((above, below)) = fraction else { return Ok(Expr::Number(literal)) };
    for _ in 0..3 {
        next(i)?;
    }
    let fraction = Expr::Quotient(Box::new(Expr::Number(above)), Box::new(Expr::Number(below)));
    Ok(Expr::Mixed(Box::new(Expr::Number(literal)), Box::new(fraction)))
}

/// The value of a literal; `None` if its exponent is out of range.
pub(super) fn literal(numeral: Numeral<'_>) -> Option<Number> {
    let (mantissa, exponent) = match numeral.text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (numeral.text, 0),
    };
    if exponent.abs() > LARGEST_EXPONENT {
        return None;
    }
    let (whole, decimals) = match decimal_mark(mantissa, numeral.comma) {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    let fraction = decimals.unwrap_or("");
    let digits = parse_digits(&[whole, fraction]).ok()?;
    let places = digit_count(fraction);
    let value = scaled(digits, exponent - places as i32);
    let decimals = (decimals.is_some() || exponent < 0).then(|| (places as i64 - i64::from(exponent)).max(0) as u32);
    Some(Number { value, decimals, repeating: false })
}

/// Where the decimal mark stands. A point that comes twice separates thousands.
fn decimal_mark(mantissa: &str, comma: bool) -> Option<usize> {
    if comma {
        return mantissa.rfind(',');
    }
    let at = mantissa.find('.')?;
    (mantissa.rfind('.') == Some(at)).then_some(at)
}

fn digit_count(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

/// The digits of texts as one integer, whatever else stands in them.
fn parse_digits(texts: &[&str]) -> Result<UBig, DigitError> {
    let digits: String = texts.iter().flat_map(|text| text.chars()).filter(char::is_ascii_digit).collect();
    if digits.is_empty() { Ok(UBig::ZERO) } else { UBig::from_str_radix(&digits, 10) }
}

/// `digits · 10^exponent`.
fn scaled(digits: UBig, exponent: i32) -> RBig {
    let power = UBig::from(10_u8).pow(exponent.unsigned_abs() as usize);
    if exponent >= 0 { RBig::from(digits * power) } else { RBig::from_parts(IBig::from(digits), power) }
}

/// `0.1\overline{6}`.
fn repeating(i: &mut Input<'_, '_>, numeral: Numeral<'_>) -> Parsed {
    expect(i, Kind::Overline)?;
    let period = match rest(i) {
        [open, digits, close, ..] if open.kind == Kind::GroupOpen && close.kind == Kind::GroupClose => {
            Some((digits.kind, 3))
        }
        [digits, ..] => Some((digits.kind, 1)),
        [] => None,
    };
    let Some((Kind::Number(period), length)) = period else { return fail(i) };
    if !period.is_digits() {
        return fail(i);
    }
    for _ in 0..length {
        next(i)?;
    }
    let (whole, fraction) = numeral.text.split_once('.').unwrap_or((numeral.text, ""));
    let (Ok(start), Ok(all)) = (parse_digits(&[whole, fraction]), parse_digits(&[whole, fraction, period.text])) else {
        return fail(i);
    };
    // x·10^(p+q) − x·10^p has no fraction left, where p digits come before the period and q are in it.
    let ten = UBig::from(10_u8);
    let (before, within) = (digit_count(fraction), period.text.len());
    let nines = ten.pow(within) - UBig::ONE;
    let value = RBig::from_parts(IBig::from(all) - IBig::from(start), nines * ten.pow(before));
    Ok(Expr::Number(Number { value, decimals: Some((before + within) as u32), repeating: true }))
}
