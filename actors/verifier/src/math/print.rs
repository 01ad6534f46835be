//! How an [`Expr`] is shown to people: plain text, with brackets wherever something could be read in two ways.

use std::fmt::{self, Display, Formatter, Write};

use super::{Bracket, Constant, Expr, Function, Number, Relation};

/// How tightly the outermost operation of an expression binds; looser ones get brackets inside tighter ones.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Binding {
    List,
    Relation,
    Set,
    Sum,
    Product,
    Power,
    Operand,
}

impl Expr {
    fn binding(&self) -> Binding {
        use Expr::*;
        match self {
            List(_) | Choice(..) => Binding::List,
            Relation(..) => Binding::Relation,
            Union(_) | Intersection(_) | Difference(..) | Ratio(_) => Binding::Set,
            Sum(_) | PlusMinus(..) | Negate(_) => Binding::Sum,
            Product(_) | Quotient(..) | Mixed(..) | Unit(..) | Big(..) => Binding::Product,
            Power(..) | Factorial(_) | Percent(_) | Degrees(_) => Binding::Power,
            Apply(Function::Mod, _) => Binding::Product,
            _ => Binding::Operand,
        }
    }
}

/// An expression in brackets unless it binds at least so tightly.
struct Inside<'a>(&'a Expr, Binding);

impl Display for Inside<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.binding() >= self.1 { write!(f, "{}", self.0) } else { write!(f, "({})", self.0) }
    }
}

fn joined<'a>(
    f: &mut Formatter<'_>,
    parts: impl IntoIterator<Item = &'a Expr>,
    by: &str,
    inside: Binding,
) -> fmt::Result {
    for (at, part) in parts.into_iter().enumerate() {
        if at > 0 {
            f.write_str(by)?;
        }
        write!(f, "{}", Inside(part, inside))?;
    }
    Ok(())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        use Binding::{Operand, Power as Tight, Product as Factor, Relation as Side, Set as Part, Sum as Term};
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Constant(constant) => write!(f, "{constant}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Sum(terms) => sum(f, terms),
            Self::Product(factors) => joined(f, factors, "·", Tight),
            Self::Negate(a) => write!(f, "-{}", Inside(a, Factor)),
            Self::Quotient(a, b) => write!(f, "{}/{}", Inside(a, Tight), Inside(b, Tight)),
            Self::Mixed(whole, fraction) => write!(f, "{whole} {fraction}"),
            Self::Power(a, b) => write!(f, "{}^{}", Inside(a, Operand), Inside(b, Operand)),
            Self::Root(a, index) => match &**index {
                Self::Number(n) if n.value == dashu::rational::RBig::from(2) => write!(f, "sqrt({a})"),
                _ => write!(f, "root({a}; {index})"),
            },
            Self::Apply(function, arguments) => apply(f, *function, arguments),
            Self::Factorial(a) => write!(f, "{}!", Inside(a, Operand)),
            Self::Binomial(a, b) => write!(f, "binomial({a}; {b})"),
            Self::PlusMinus(None, b) => write!(f, "±{}", Inside(b, Factor)),
            Self::PlusMinus(Some(a), b) => write!(f, "{a} ± {}", Inside(b, Factor)),
            Self::Percent(a) => write!(f, "{}%", Inside(a, Operand)),
            Self::Degrees(a) => write!(f, "{}°", Inside(a, Operand)),
            Self::Unit(a, unit) => write!(f, "{} \"{unit}\"", Inside(a, Factor)),
            Self::Bracketed(open, items, close) => {
                f.write_char(if *open == Bracket::Round { '(' } else { '[' })?;
                joined(f, items, ", ", Side)?;
                f.write_char(if *close == Bracket::Round { ')' } else { ']' })
            }
            Self::Set(items) => {
                f.write_char('{')?;
                joined(f, items, ", ", Side)?;
                f.write_char('}')
            }
            Self::List(items) => joined(f, items, ", ", Side),
            Self::Union(parts) => joined(f, parts, " ∪ ", Term),
            Self::Intersection(parts) => joined(f, parts, " ∩ ", Term),
            Self::Difference(a, b) => write!(f, "{} ∖ {}", Inside(a, Part), Inside(b, Term)),
            Self::Builder(a, conditions) => {
                write!(f, "{{{a} | ")?;
                joined(f, conditions, ", ", Side)?;
                f.write_char('}')
            }
            Self::NumberSet(letter) => f.write_char(number_set(*letter)),
            Self::Relation(first, chain) => {
                write!(f, "{}", Inside(first, Part))?;
                chain.iter().try_for_each(|(relation, side)| write!(f, " {relation} {}", Inside(side, Part)))
            }
            Self::Matrix(rows) => {
                f.write_char('[')?;
                for (at, row) in rows.iter().enumerate() {
                    f.write_str(if at > 0 { "; " } else { "" })?;
                    joined(f, row, ", ", Side)?;
                }
                f.write_char(']')
            }
            Self::Text(words) => write!(f, "\"{words}\""),
            Self::Ratio(parts) => joined(f, parts, ":", Term),
            Self::Call(name, arguments) => call(f, name, arguments),
            Self::Big(name, below, above, body) => {
                f.write_str(name)?;
                if let Some(below) = below {
                    write!(f, "_{{{below}}}")?;
                }
                if let Some(above) = above {
                    write!(f, "^{{{above}}}")?;
                }
                write!(f, " {}", Inside(body, Factor))
            }
            Self::Based(digits, base) => write!(f, "{digits}_{base}"),
            Self::Piecewise(cases) => {
                f.write_str("cases(")?;
                for (at, (value, condition)) in cases.iter().enumerate() {
                    write!(f, "{}{value} if {condition}", if at > 0 { "; " } else { "" })?;
                }
                f.write_char(')')
            }
            Self::Choice(letter, says) => write!(f, "({letter}) {says}"),
        }
    }
}

fn sum(f: &mut Formatter<'_>, terms: &[Expr]) -> fmt::Result {
    for (at, term) in terms.iter().enumerate() {
        match term {
            Expr::Negate(a) if at > 0 => write!(f, " - {}", Inside(a, Binding::Product))?,
            _ if at > 0 => write!(f, " + {}", Inside(term, Binding::Product))?,
            Expr::Negate(_) => write!(f, "{term}")?,
            _ => write!(f, "{}", Inside(term, Binding::Product))?,
        }
    }
    Ok(())
}

fn call(f: &mut Formatter<'_>, name: &str, arguments: &[Expr]) -> fmt::Result {
    write!(f, "{name}(")?;
    joined(f, arguments, ", ", Binding::Relation)?;
    f.write_char(')')
}

fn apply(f: &mut Formatter<'_>, function: Function, arguments: &[Expr]) -> fmt::Result {
    match (function, arguments) {
        (Function::Abs, [a]) => write!(f, "|{a}|"),
        (Function::Floor, [a]) => write!(f, "⌊{a}⌋"),
        (Function::Ceil, [a]) => write!(f, "⌈{a}⌉"),
        (Function::Mod, [a, b]) => write!(f, "{} mod {}", Inside(a, Binding::Power), Inside(b, Binding::Power)),
        (Function::Log, [a, b]) => write!(f, "log_{}({a})", Inside(b, Binding::Operand)),
        _ => call(f, &format!("{function:?}").to_lowercase(), arguments),
    }
}

fn number_set(letter: char) -> char {
    match letter {
        'R' => 'ℝ',
        'Q' => 'ℚ',
        'Z' => 'ℤ',
        'N' => 'ℕ',
        'C' => 'ℂ',
        other => other,
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.decimals {
            Some(decimals) if !self.repeating => {
                // The denominator divides this power of ten, since the number was read with so many decimals.
                let scaled =
                    &self.value * dashu::rational::RBig::from(dashu::integer::UBig::from(10_u8).pow(decimals as usize));
                let digits = scaled.trunc().to_string();
                let places = decimals as usize;
                let digits = format!("{digits:0>width$}", width = places + 1);
                let (whole, fraction) = digits.split_at(digits.len() - places);
                if fraction.is_empty() { f.write_str(whole) } else { write!(f, "{whole}.{fraction}") }
            }
            Some(_) => write!(f, "({})", self.value),
            None => write!(f, "{}", self.value),
        }
    }
}

impl Display for Constant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pi => "π",
            Self::E => "e",
            Self::I => "i",
            Self::Infinity => "∞",
        })
    }
}

impl Display for Relation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "≠",
            Self::Less => "<",
            Self::LessEqual => "≤",
            Self::Greater => ">",
            Self::GreaterEqual => "≥",
            Self::Approximately => "≈",
            Self::Congruent => "≡",
            Self::In => "∈",
            Self::NotIn => "∉",
            Self::Subset => "⊂",
            Self::Tends => "→",
        })
    }
}
