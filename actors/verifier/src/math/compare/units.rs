//! Quantities: a unit that both have must fit, a unit that only one has is taken off.

use dashu::rational::RBig;

use super::{Comparison, Rule, tree};
use crate::math::{Expr, Number, OverBudget};

/// What a unit measures: two are comparable only within one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Length(u8),
    Mass,
    Time,
    Volume,
    Speed,
    Angle,
    Temperature(char),
    Money(&'static str),
}

/// A known unit: how many of the dimension's base unit it is, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    dimension: Dimension,
    above: u64,
    below: u64,
}

impl Comparison<'_> {
    /// `None` if neither is a quantity.
    pub(super) fn quantities(&mut self, a: &Expr, b: &Expr) -> Result<Option<Option<Rule>>, OverBudget> {
        let (x, y) = match (quantity(a), quantity(b)) {
            (None, None) => return Ok(None),
            (Some((x, left)), Some((y, right))) if self.options.units => match (known(left), known(right)) {
                (Some(left), Some(right)) if left != right => {
                    if left.dimension != right.dimension {
                        return Ok(Some(None));
                    }
                    let found = self.same(&converted(&x, left), &converted(&y, right))?;
                    return Ok(Some(found.map(|_| Rule::Unit)));
                }
                _ => (x, y),
            },
            (x, y) => (x.map_or_else(|| a.clone(), |(x, _)| x), y.map_or_else(|| b.clone(), |(y, _)| y)),
        };
        self.same(&x, &y).map(Some)
    }
}

/// The value and unit of a quantity; the sign may stand before it.
fn quantity(expr: &Expr) -> Option<(Expr, &str)> {
    match expr {
        Expr::Unit(value, unit) => Some(((**value).clone(), unit)),
        Expr::Negate(a) => quantity(a).map(|(value, unit)| (tree::negated(value), unit)),
        _ => None,
    }
}

fn converted(value: &Expr, unit: Known) -> Expr {
    let number = |value: u64| Expr::Number(Number { value: RBig::from(value), decimals: None, repeating: false });
    let scaled = Expr::Product(vec![value.clone(), number(unit.above)]);
    Expr::Quotient(Box::new(scaled), Box::new(number(unit.below)))
}

/// Finds a unit by its name, singular or plural, short or long, with an exponent or "square" and "cubic" for areas and volumes.
fn known(unit: &str) -> Option<Known> {
    let unit = unit.trim().trim_end_matches('.').replace(['~', '\\', ','], " ");
    let unit = unit.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let (name, power) = power_of(&unit);
    let found = simple(name).or_else(|| name.strip_suffix('s').and_then(simple));
    let found = found.or_else(|| name.strip_suffix("es").and_then(simple))?;
    if power == 1 {
        return Some(found);
    }
    match found.dimension {
        Dimension::Length(1) => {
            let raised = |value: u64| value.checked_pow(u32::from(power));
            Some(Known {
                dimension: Dimension::Length(power),
                above: raised(found.above)?,
                below: raised(found.below)?,
            })
        }
        _ => None,
    }
}

fn power_of(unit: &str) -> (&str, u8) {
    for (prefix, power) in [("square ", 2), ("sq ", 2), ("sq. ", 2), ("cubic ", 3), ("cu ", 3), ("cu. ", 3)] {
        if let Some(name) = unit.strip_prefix(prefix) {
            return (name, power);
        }
    }
    for (suffix, power) in
        [("^2", 2), ("^{2}", 2), ("²", 2), ("^3", 3), ("^{3}", 3), ("³", 3), (" squared", 2), (" cubed", 3)]
    {
        if let Some(name) = unit.strip_suffix(suffix) {
            return (name.trim_end(), power);
        }
    }
    (unit, 1)
}

fn simple(name: &str) -> Option<Known> {
    use Dimension::*;
    let (dimension, above, below) = match name {
        "mm" | "millimeter" | "millimetre" => (Length(1), 1, 1000),
        "cm" | "centimeter" | "centimetre" => (Length(1), 1, 100),
        "dm" | "decimeter" | "decimetre" => (Length(1), 1, 10),
        "m" | "meter" | "metre" => (Length(1), 1, 1),
        "km" | "kilometer" | "kilometre" => (Length(1), 1000, 1),
        "in" | "inch" => (Length(1), 254, 10_000),
        "ft" | "foot" | "feet" => (Length(1), 3048, 10_000),
        "yd" | "yard" => (Length(1), 9144, 10_000),
        "mi" | "mile" => (Length(1), 1_609_344, 1000),
        "mg" | "milligram" => (Mass, 1, 1000),
        "g" | "gram" => (Mass, 1, 1),
        "kg" | "kilogram" => (Mass, 1000, 1),
        "lb" | "pound" => (Mass, 45_359_237, 100_000),
        "oz" | "ounce" => (Mass, 45_359_237, 1_600_000),
        "ms" | "millisecond" => (Time, 1, 1000),
        "s" | "sec" | "second" => (Time, 1, 1),
        "min" | "minute" => (Time, 60, 1),
        "h" | "hr" | "hour" => (Time, 3600, 1),
        "day" => (Time, 86_400, 1),
        "week" => (Time, 604_800, 1),
        "ml" | "milliliter" | "millilitre" => (Volume, 1, 1000),
        "l" | "liter" | "litre" => (Volume, 1, 1),
        "gallon" => (Volume, 3_785_411_784, 1_000_000_000),
        "m/s" | "meters per second" | "meter per second" => (Speed, 18, 5),
        "km/h" | "kmh" | "kph" | "kilometers per hour" => (Speed, 1, 1),
        "mph" | "miles per hour" | "miles/hour" => (Speed, 1_609_344, 1_000_000),
        "degree" | "deg" => (Angle, 1, 1),
        "°c" | "degrees celsius" => (Temperature('c'), 1, 1),
        "°f" | "degrees fahrenheit" => (Temperature('f'), 1, 1),
        "$" | "dollar" | "usd" | "us dollar" => (Money("usd"), 1, 1),
        "cent" | "¢" => (Money("usd"), 1, 100),
        "€" | "euro" | "eur" => (Money("eur"), 1, 1),
        "£" | "gbp" => (Money("gbp"), 1, 1),
        "¥" | "yen" | "jpy" => (Money("jpy"), 1, 1),
        "yuan" | "rmb" => (Money("cny"), 1, 1),
        "₹" | "rupee" | "rs" => (Money("inr"), 1, 1),
        _ => return None,
    };
    Some(Known { dimension, above, below })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_unit_are_one_unit() {
        for names in
            [["cm", "centimeters"], ["square feet", "ft^2"], ["$", "dollars"], ["inches", "in"], ["cm²", "sq cm"]]
        {
            assert!(known(names[0]).is_some(), "{names:?}");
            assert_eq!(known(names[0]), known(names[1]), "{names:?}");
        }
    }

    #[test]
    fn other_units_differ_and_words_are_not_known() {
        assert_ne!(known("cm"), known("m"));
        assert_ne!(known("cm"), known("cm^2"));
        assert_ne!(known("$").map(|unit| unit.dimension), known("€").map(|unit| unit.dimension));
        for name in ["apples", "", "units", "students"] {
            assert_eq!(known(name), None, "{name}");
        }
    }
}
