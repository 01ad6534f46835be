//! A number as it is written, and its exact value.

use dashu::base::Abs;
use dashu::integer::{IBig, UBig};
use dashu::rational::Relaxed;

/// The most digits of a number, of its exponent's effect too: beyond, its value is not computed.
pub(super) const MOST_DIGITS: usize = 20_000;

/// A number has more digits than are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Digits with a decimal point and separators of thousands, times a power of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits<'a> {
    /// What was written. Only digits and the point count.
    pub(super) text: &'a str,
    /// The power of ten; `None` if it does not fit, so that the number is [`TooLarge`].
    pub(super) exponent: Option<i32>,
}

/// A number as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    pub(super) negative: bool,
    pub(super) form: Form<'a>,
    /// Whether a percent sign follows.
    pub(super) percent: bool,
}

/// The forms of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form<'a> {
    /// `1,234.5` or `1.5e3`.
    Plain(Digits<'a>),
    /// `10^5`.
    Power(Digits<'a>, Option<i32>),
    /// `1/2`, with a whole number before it in `3 1/2`; the sign is of the lower number.
    Fraction { whole: Option<Digits<'a>>, over: Digits<'a>, under: Digits<'a>, negative: bool },
}

impl Reading<'_> {
    /// The number without its percent sign; `None` for a division by zero.
    pub(super) fn number(&self) -> Result<Option<Relaxed>, TooLarge> {
        let size = match self.form {
            Form::Plain(digits) => digits.value()?,
            Form::Power(base, exponent) => match power(base.value()?, exponent)? {
                Some(value) => value,
                None => return Ok(None),
            },
            Form::Fraction { whole, over, under, negative } => {
                let under = under.value()?;
                if under == Relaxed::ZERO {
                    return Ok(None);
                }
                let fraction = over.value()? / if negative { -under } else { under };
                whole.map_or(Ok(Relaxed::ZERO), |whole| whole.value())? + fraction
            }
        };
        Ok(Some(if self.negative { -size } else { size }))
    }
}

impl Digits<'_> {
    pub(super) fn value(&self) -> Result<Relaxed, TooLarge> {
        let point = self.text.find('.').unwrap_or(self.text.len());
        let digit = |c: &char| c.is_ascii_digit();
        let whole = self.text[..point].chars().filter(digit);
        let decimals = self.text[point..].chars().filter(digit);
        let places = i32::try_from(decimals.clone().count()).map_err(|_| TooLarge)?;
        let digits: String = whole.chain(decimals).collect();
        let exponent = self.exponent.ok_or(TooLarge)?.checked_sub(places).ok_or(TooLarge)?;
        if digits.len() > MOST_DIGITS || exponent.unsigned_abs() as usize > MOST_DIGITS {
            return Err(TooLarge);
        }
        // They are digits; a number without any is zero.
        let digits = UBig::from_str_radix(&digits, 10).unwrap_or(UBig::ZERO);
        let ten = UBig::from(10u8).pow(exponent.unsigned_abs() as usize);
        Ok(match exponent < 0 {
            true => Relaxed::from_parts(IBig::from(digits), ten),
            false => Relaxed::from(digits * ten),
        })
    }
}

/// `None` for a negative power of zero.
fn power(base: Relaxed, exponent: Option<i32>) -> Result<Option<Relaxed>, TooLarge> {
    let exponent = exponent.ok_or(TooLarge)?;
    let times = exponent.unsigned_abs() as usize;
    let (over, under) = base.into_parts();
    let bits = dashu::base::BitTest::bit_len(&over).max(dashu::base::BitTest::bit_len(&under));
    // Four bits are more than a decimal digit.
    if bits.saturating_mul(times) > 4 * MOST_DIGITS {
        return Err(TooLarge);
    }
    let (over, under) = (over.pow(times), under.pow(times));
    if exponent >= 0 {
        return Ok(Some(Relaxed::from_parts(over, under)));
    }
    Ok((over != IBig::ZERO).then(|| Relaxed::from_parts_signed(IBig::from(under), over)))
}

/// Whether two numbers differ by at most `absolute`, or by at most `relative` times the larger of them.
pub(super) fn close(a: &Relaxed, b: &Relaxed, absolute: &Relaxed, relative: &Relaxed) -> bool {
    let difference = (a - b).abs();
    if difference <= *absolute {
        return true;
    }
    let (a, b) = (a.clone().abs(), b.clone().abs());
    difference <= relative * if a < b { b } else { a }
}
