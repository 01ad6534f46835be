//! The points at which expressions are compared: fixed rational numbers, of both signs and of several sizes.

use dashu::integer::IBig;
use dashu::rational::RBig;

use super::names::Names;

/// A value for each name.
pub(super) struct Point<'a> {
    names: &'a Names,
    values: Vec<RBig>,
}

/// How many points there are.
pub(super) const MOST_POINTS: usize = 18;

/// Numerators over [`DENOMINATOR`], a prime: no simple relation holds between them. Consecutive ones differ much, so that
/// conditions between two names (a > b, x < 1) hold at some of the points whichever way they go.
const NUMERATORS: [i64; 11] = [659, 2_441, 211, 5_303, 1_499, 11_807, 877, 3_631, 131_221, 7_919, 383];
const DENOMINATOR: u32 = 1_009;

/// The same for whole numbers, small since they stand in exponents and under factorials.
const WHOLE: [i64; 11] = [7, 4, 9, 5, 12, 3, 8, 6, 11, 2, 10];

impl<'a> Point<'a> {
    /// The point of constants.
    pub(super) fn none(names: &'a Names) -> Self {
        Self { names, values: Vec::new() }
    }

    /// One of [`MOST_POINTS`]. All coordinates of the first six are positive.
    pub(super) fn numbered(index: usize, names: &'a Names) -> Self {
        let value = |(place, key): (usize, &String)| {
            let pick = (index * 3 + place * 4 + index / 6 + place / 11) % 11;
            if names.is_whole(key) {
                return RBig::from(WHOLE[pick]);
            }
            // Names past the eleventh need values of their own too.
            let numerator = NUMERATORS[pick] + 17 * (place / 11) as i64;
            let negative =
                index >= 6 && (index + place).is_multiple_of(2) || index >= 12 && (index / 2 + place).is_multiple_of(3);
            RBig::from_parts(IBig::from(if negative { -numerator } else { numerator }), DENOMINATOR.into())
        };
        let values = names.all().iter().enumerate().map(value).collect();
        Self { names, values }
    }

    pub(super) fn value(&self, name: &str) -> Option<&RBig> {
        self.values.get(self.names.place(name)?)
    }
}
