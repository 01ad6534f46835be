//! Quantities: a unit that both have must fit, a unit that only one has is taken off.
//!
//! A unit is read as a product of known ones with powers, so that `m/s^2` and `m s^{-2}` are one and a joule is a newton metre.
//! A number word before it (`2 million dollars`) multiplies.

use dashu::integer::UBig;
use dashu::rational::RBig;

use super::{Comparison, Rule, tree};
use crate::math::{Expr, Number, OverBudget};

/// A known unit: what it measures, and how many of the base units it is.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    /// Base units with their powers, in order, none zero.
    dimensions: Vec<(&'static str, i8)>,
    scale: RBig,
}

/// A value with its unit.
struct Quantity<'e> {
    value: Expr,
    unit: std::borrow::Cow<'e, str>,
}

impl Comparison<'_> {
    /// `None` if neither is a quantity.
    pub(super) fn quantities(&mut self, a: &Expr, b: &Expr) -> Result<Option<Option<Rule>>, OverBudget> {
        let (a_quantity, b_quantity) = match (quantity(a), quantity(b)) {
            (None, None) => return Ok(None),
            (Some(x), Some(y)) => (x, y),
            (Some(x), None) => {
                let value = without_letter(b, &x.unit).unwrap_or_else(|| b.clone());
                (x, Quantity { value, unit: "".into() })
            }
            (None, Some(y)) => {
                let value = without_letter(a, &y.unit).unwrap_or_else(|| a.clone());
                (Quantity { value, unit: "".into() }, y)
            }
        };
        let ((left, x), (right, y)) = (magnitude(&a_quantity.unit), magnitude(&b_quantity.unit));
        if self.options.units
            && let (Some(m), Some(n)) = (known(x), known(y))
            && m != n
            && !is_pounds(x, y)
        {
            if m.dimensions != n.dimensions {
                return Ok(Some(None));
            }
            let found = self.same(
                &times(&times(&a_quantity.value, &left), &m.scale),
                &times(&times(&b_quantity.value, &right), &n.scale),
            )?;
            return Ok(Some(found.map(|_| Rule::Unit)));
        }
        let found = self.same(&times(&a_quantity.value, &left), &times(&b_quantity.value, &right))?;
        let one_multiplies = (left == RBig::ONE) != (right == RBig::ONE);
        if found.is_none() && one_multiplies {
            // "How many million?": then the word is a unit like any other.
            return self.same(&a_quantity.value, &b_quantity.value).map(Some);
        }
        Ok(Some(found))
    }
}

/// The value and unit of a quantity; the sign may stand before it, and another unit within (`\$5 per hour`).
fn quantity(expr: &Expr) -> Option<Quantity<'_>> {
    match expr {
        Expr::Unit(value, unit) => Some(match quantity(value) {
            Some(inner) => Quantity { value: inner.value, unit: format!("{unit} {}", inner.unit).into() },
            None => Quantity { value: (**value).clone(), unit: unit.into() },
        }),
        Expr::Negate(a) => quantity(a).map(|inner| Quantity { value: tree::negated(inner.value), unit: inner.unit }),
        _ => None,
    }
}

/// `\frac32 m` beside a value in metres: the letter is the unit that the other one has.
fn without_letter(expr: &Expr, unit: &str) -> Option<Expr> {
    let Expr::Product(factors) = expr else { return None };
    match factors.as_slice() {
        [before @ .., Expr::Symbol(letter)] if letter == unit && !before.is_empty() => {
            Some(Expr::Product(before.to_vec()))
        }
        _ => None,
    }
}

fn times(value: &Expr, scale: &RBig) -> Expr {
    if *scale == RBig::ONE {
        return value.clone();
    }
    let factor = Number { value: scale.clone(), decimals: None, repeating: false };
    Expr::Product(vec![value.clone(), Expr::Number(factor)])
}

/// The number word that begins a unit, and the unit behind it.
fn magnitude(unit: &str) -> (RBig, &str) {
    let (word, rest) = unit.split_once(' ').unwrap_or((unit, ""));
    let zeros = match word.to_ascii_lowercase().as_str() {
        "hundred" | "hundreds" => 2,
        "thousand" | "thousands" => 3,
        "million" | "millions" => 6,
        "billion" | "billions" => 9,
        "trillion" | "trillions" => 12,
        _ => return (RBig::ONE, unit),
    };
    (RBig::from(UBig::from(10_u8).pow(zeros)), rest.trim_start_matches("of ").trim_start())
}

/// A pound is money or a mass: it fits both.
fn is_pounds(a: &str, b: &str) -> bool {
    let pounds = |unit: &str| matches!(unit.to_ascii_lowercase().as_str(), "pound" | "pounds");
    let money = |unit: &str| matches!(unit.to_ascii_lowercase().as_str(), "£" | "gbp");
    pounds(a) && money(b) || money(a) && pounds(b)
}

/// Finds a unit by its name: singular or plural, short or long, a product or quotient of several.
fn known(unit: &str) -> Option<Known> {
    let unit = unit.replace(['~', '\\', ',', '·', '⋅', '*', '{', '}'], " ").replace(" per ", "/");
    let unit = unit.trim().strip_prefix("per ").map_or_else(|| unit.clone(), |rest| format!("/{rest}"));
    let mut total = Known { dimensions: Vec::new(), scale: RBig::ONE };
    let mut any = false;
    for (place, part) in unit.split('/').enumerate() {
        let sign = if place == 0 { 1 } else { -1 };
        let mut next_power = 1;
        let mut words = part.split_whitespace().peekable();
        while let Some(word) = words.next() {
            match word.trim_end_matches('.').to_ascii_lowercase().as_str() {
                "square" | "sq" => next_power = 2,
                "cubic" | "cu" => next_power = 3,
                _ => {
                    let (name, mut power) = power_of(word)?;
                    power = match words.peek() {
                        Some(&"squared") => 2,
                        Some(&"cubed") => 3,
                        _ => power,
                    };
                    if power != 1 && matches!(words.peek(), Some(&("squared" | "cubed"))) {
                        words.next();
                    }
                    total.multiply(&one(name)?, sign * power * std::mem::replace(&mut next_power, 1))?;
                    any = true;
                }
            }
        }
    }
    any.then_some(total)
}

impl Known {
    fn multiply(&mut self, other: &Self, power: i8) -> Option<()> {
        if !(-4..=4).contains(&power) {
            return None;
        }
        for (base, exponent) in &other.dimensions {
            match self.dimensions.binary_search_by_key(base, |(known, _)| known) {
                Ok(at) => self.dimensions[at].1 += exponent * power,
                Err(at) => self.dimensions.insert(at, (base, exponent * power)),
            }
        }
        self.dimensions.retain(|(_, exponent)| *exponent != 0);
        for _ in 0..power.unsigned_abs() {
            let scale = std::mem::take(&mut self.scale);
            self.scale = if power < 0 { scale / &other.scale } else { scale * &other.scale };
        }
        Some(())
    }
}

/// `cm^2`, `s^-1`: the name and the power.
fn power_of(word: &str) -> Option<(&str, i8)> {
    let word = word.trim_end_matches('.');
    if let Some((name, power)) = word.split_once('^') {
        return Some((name, power.parse().ok()?));
    }
    for (sign, power) in [('²', 2), ('³', 3)] {
        if let Some(name) = word.strip_suffix(sign) {
            return Some((name, power));
        }
    }
    Some((word, 1))
}

/// A single unit by its name.
fn one(name: &str) -> Option<Known> {
    let lower = name.to_lowercase();
    let plural = || lower.strip_suffix('s').and_then(simple).or_else(|| lower.strip_suffix("es").and_then(simple));
    let (dimensions, above, below) = symbol(name).or_else(|| simple(&lower)).or_else(plural)?;
    Some(Known { dimensions: dimensions.to_vec(), scale: RBig::from_parts(above.into(), below.into()) })
}

/// Base units with powers, and the scale as a fraction.
type Entry = (&'static [(&'static str, i8)], u64, u64);

const LENGTH: &[(&str, i8)] = &[("m", 1)];
const AREA: &[(&str, i8)] = &[("m", 2)];
const VOLUME: &[(&str, i8)] = &[("m", 3)];
const SPEED: &[(&str, i8)] = &[("m", 1), ("s", -1)];
const MASS: &[(&str, i8)] = &[("kg", 1)];
const TIME: &[(&str, i8)] = &[("s", 1)];
const RATE: &[(&str, i8)] = &[("s", -1)];
const FORCE: &[(&str, i8)] = &[("kg", 1), ("m", 1), ("s", -2)];
const ENERGY: &[(&str, i8)] = &[("kg", 1), ("m", 2), ("s", -2)];
const POWER: &[(&str, i8)] = &[("kg", 1), ("m", 2), ("s", -3)];
const PRESSURE: &[(&str, i8)] = &[("kg", 1), ("m", -1), ("s", -2)];

/// Units whose case counts.
fn symbol(name: &str) -> Option<Entry> {
    Some(match name {
        "N" => (FORCE, 1, 1),
        "kN" => (FORCE, 1000, 1),
        "J" => (ENERGY, 1, 1),
        "kJ" => (ENERGY, 1000, 1),
        "MJ" => (ENERGY, 1_000_000, 1),
        "kWh" => (ENERGY, 3_600_000, 1),
        "W" => (POWER, 1, 1),
        "mW" => (POWER, 1, 1000),
        "kW" => (POWER, 1000, 1),
        "MW" => (POWER, 1_000_000, 1),
        "Pa" => (PRESSURE, 1, 1),
        "kPa" => (PRESSURE, 1000, 1),
        "MPa" => (PRESSURE, 1_000_000, 1),
        "Hz" => (RATE, 1, 1),
        "kHz" => (RATE, 1000, 1),
        "MHz" => (RATE, 1_000_000, 1),
        "GHz" => (RATE, 1_000_000_000, 1),
        "K" => (&[("K", 1)], 1, 1),
        "A" => (&[("A", 1)], 1, 1),
        "V" => (&[("V", 1)], 1, 1),
        _ => return None,
    })
}

fn simple(name: &str) -> Option<Entry> {
    Some(match name {
        "nm" | "nanometer" | "nanometre" => (LENGTH, 1, 1_000_000_000),
        "mm" | "millimeter" | "millimetre" => (LENGTH, 1, 1000),
        "cm" | "centimeter" | "centimetre" => (LENGTH, 1, 100),
        "dm" | "decimeter" | "decimetre" => (LENGTH, 1, 10),
        "m" | "meter" | "metre" => (LENGTH, 1, 1),
        "km" | "kilometer" | "kilometre" => (LENGTH, 1000, 1),
        "in" | "inch" => (LENGTH, 254, 10_000),
        "ft" | "foot" | "feet" => (LENGTH, 3048, 10_000),
        "yd" | "yard" => (LENGTH, 9144, 10_000),
        "mi" | "mile" => (LENGTH, 1_609_344, 1000),
        "hectare" | "ha" => (AREA, 10_000, 1),
        "mg" | "milligram" => (MASS, 1, 1_000_000),
        "g" | "gm" | "gram" => (MASS, 1, 1000),
        "kg" | "kilogram" => (MASS, 1, 1),
        "ton" | "tonne" => (&[("t", 1)], 1, 1),
        "lb" | "pound" => (MASS, 45_359_237, 100_000_000),
        "oz" | "ounce" => (MASS, 45_359_237, 1_600_000_000),
        "ms" | "millisecond" => (TIME, 1, 1000),
        "s" | "sec" | "second" => (TIME, 1, 1),
        "min" | "minute" => (TIME, 60, 1),
        "h" | "hr" | "hour" => (TIME, 3600, 1),
        "day" => (TIME, 86_400, 1),
        "wk" | "week" => (TIME, 604_800, 1),
        "ml" | "milliliter" | "millilitre" | "cc" => (VOLUME, 1, 1_000_000),
        "cl" | "centiliter" | "centilitre" => (VOLUME, 1, 100_000),
        "l" | "liter" | "litre" => (VOLUME, 1, 1000),
        "gallon" | "gal" => (VOLUME, 3_785_411_784, 1_000_000_000_000),
        "kmh" | "kph" => (SPEED, 5, 18),
        "mph" => (SPEED, 1397, 3125),
        "newton" => (FORCE, 1, 1),
        "joule" => (ENERGY, 1, 1),
        "watt" => (POWER, 1, 1),
        "pascal" => (PRESSURE, 1, 1),
        "hertz" => (RATE, 1, 1),
        "kelvin" => (&[("K", 1)], 1, 1),
        "ampere" | "amp" => (&[("A", 1)], 1, 1),
        "volt" => (&[("V", 1)], 1, 1),
        "degree" | "deg" => (&[("deg", 1)], 1, 1),
        "°c" => (&[("°c", 1)], 1, 1),
        "°f" => (&[("°f", 1)], 1, 1),
        "$" | "dollar" | "usd" => (&[("usd", 1)], 1, 1),
        "cent" | "¢" => (&[("usd", 1)], 1, 100),
        "€" | "euro" | "eur" => (&[("eur", 1)], 1, 1),
        "£" | "gbp" => (&[("gbp", 1)], 1, 1),
        "¥" | "yen" | "jpy" => (&[("jpy", 1)], 1, 1),
        "yuan" | "rmb" => (&[("cny", 1)], 1, 1),
        "₹" | "rupee" | "rs" => (&[("inr", 1)], 1, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_unit_are_one_unit() {
        for names in [
            ["cm", "centimeters"],
            ["square feet", "ft^2"],
            ["$", "dollars"],
            ["inches", "in"],
            ["cm²", "sq cm"],
            ["sq. cm", "centimeters squared"],
            ["m/s^2", "meters per second squared"],
            ["m s^-1", "m/s"],
            ["J", "N m"],
            ["mL", "cm^3"],
            ["miles per hour", "mph"],
            ["$ per hour", "dollars/hour"],
        ] {
            assert!(known(names[0]).is_some(), "{names:?}");
            assert_eq!(known(names[0]), known(names[1]), "{names:?}");
        }
    }

    #[test]
    fn other_units_differ_and_words_are_not_known() {
        for [a, b] in [["cm", "cm^2"], ["$", "€"], ["m/s", "m/s^2"], ["J", "W"], ["°C", "°F"]] {
            assert_ne!(known(a).unwrap().dimensions, known(b).unwrap().dimensions, "{a} {b}");
        }
        assert_ne!(known("cm"), known("m"));
        assert_ne!(known("MJ"), known("kJ"));
        for name in ["apples", "", "units", "students", "square units", "per", "m^9", "m^x"] {
            assert_eq!(known(name), None, "{name}");
        }
    }

    #[test]
    fn a_number_word_before_a_unit_multiplies() {
        assert_eq!(magnitude("million dollars"), (RBig::from(1_000_000), "dollars"));
        assert_eq!(magnitude("dollars"), (RBig::ONE, "dollars"));
    }
}
