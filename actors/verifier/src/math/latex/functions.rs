//! Named functions: `\sin^2 2x`, `\log_2 8`, `\gcd(12, 18)`, and what belongs to their argument where no bracket says so.

use super::grammar::one_or;
use super::input::{Input, Parsed, accept, expect, fail, nested, next, peek, peek_at};
use super::lists::list;
use super::literals::whole_number;
use super::operands::{argument, factor, group, primary};
use super::scripts::exponent;
use super::token::{Fence, Kind, Side};
use crate::math::{Constant, Expr, Function};

/// A named function: its power and base, then its argument with or without brackets.
pub(super) fn apply(i: &mut Input<'_, '_>, function: Function, base: Option<Expr>) -> Parsed {
    next(i)?;
    let (mut base, mut power) = (base, None);
    loop {
        match peek(i) {
            Some(Kind::Caret) if power.is_none() => {
                next(i)?;
                power = Some(nested(i, Default::default(), exponent)?);
            }
            Some(Kind::Underscore) if base.is_none() => {
                next(i)?;
                base = Some(argument(i)?);
            }
            _ => break,
        }
    }
    let mut arguments = function_arguments(i, function)?;
    arguments.extend(base.filter(|_| function == Function::Log));
    let inverse = power.as_ref().and_then(|power| inverse(function, power));
    if let Some(inverse) = inverse {
        return Ok(Expr::Apply(inverse, arguments));
    }
    let value = Expr::Apply(function, arguments);
    Ok(match power {
        Some(power) => Expr::Power(Box::new(value), Box::new(power)),
        None => value,
    })
}

/// `\operatorname{cis} x`
pub(super) fn cis(i: &mut Input<'_, '_>) -> Parsed {
    next(i)?;
    let angle = function_arguments(i, Function::Cos)?;
    let sine = Expr::Product(vec![Expr::Constant(Constant::I), Expr::Apply(Function::Sin, angle.clone())]);
    Ok(Expr::Sum(vec![Expr::Apply(Function::Cos, angle), sine]))
}

/// `\sin^{-1}` is the arcus function.
fn inverse(function: Function, power: &Expr) -> Option<Function> {
    use Function::*;
    match power {
        Expr::Negate(one) if **one == whole_number(1) => {}
        _ => return None,
    }
    Some(match function {
        Sin => Arcsin,
        Cos => Arccos,
        Tan => Arctan,
        Cot => Arccot,
        Sinh => Arsinh,
        Cosh => Arcosh,
        Tanh => Artanh,
        _ => return None,
    })
}

fn function_arguments(i: &mut Input<'_, '_>, function: Function) -> Parsed<Vec<Expr>> {
    match peek(i) {
        Some(Kind::Open(fence @ (Fence::Round | Fence::Square | Fence::Curly))) => {
            next(i)?;
            let items = nested(i, Default::default(), list)?;
            expect(i, Kind::Close(fence))?;
            if items.is_empty() { fail(i) } else { Ok(items) }
        }
        Some(Kind::GroupOpen) => match group(i)? {
            Expr::List(items) => Ok(items),
            item => Ok(vec![item]),
        },
        Some(Kind::Function(_) | Kind::LogTen) => Ok(vec![nested(i, i.state.within, primary)?]),
        Some(kind) if kind.starts_operand() || kind == Kind::Minus => {
            let negative = accept(i, Kind::Minus);
            let argument = nested(i, i.state.within, |i| open_argument(i, function))?;
            Ok(vec![if negative { Expr::Negate(Box::new(argument)) } else { argument }])
        }
        _ => fail(i),
    }
}

/// An argument without brackets: the operands side by side, up to the next function or bracket.
fn open_argument(i: &mut Input<'_, '_>, function: Function) -> Parsed {
    let mut factors = vec![factor(i)?];
    loop {
        let more = match peek(i) {
            Some(Kind::Letter(_) | Kind::Name(_) | Kind::Constant(_) | Kind::Frac | Kind::Sqrt | Kind::GroupOpen) => {
                true
            }
            Some(Kind::Open(Fence::Round)) => matches!(factors.as_slice(), [Expr::Number(_)]),
            Some(Kind::Bar(Side::Left)) => true,
            _ => false,
        };
        if !more {
            break;
        }
        factors.push(factor(i)?);
    }
    let argument = one_or(Expr::Product, factors);
    if peek(i) != Some(Kind::Divide) || !matches!(peek_at(i, 1), Some(Kind::Number(_))) {
        return Ok(argument);
    }
    // `\sin \pi/3` is meant as it is said, `\ln 2/3` mostly is not.
    let angle = trigonometric(function) && mentions_pi(&argument);
    i.state.ambiguous |= !angle;
    if !angle && !i.state.alternative {
        return Ok(argument);
    }
    next(i)?;
    let below = factor(i)?;
    Ok(Expr::Quotient(Box::new(argument), Box::new(below)))
}

fn trigonometric(function: Function) -> bool {
    use Function::*;
    matches!(function, Sin | Cos | Tan | Cot | Sec | Csc)
}

fn mentions_pi(argument: &Expr) -> bool {
    match argument {
        Expr::Constant(Constant::Pi) => true,
        Expr::Product(factors) => factors.contains(&Expr::Constant(Constant::Pi)),
        _ => false,
    }
}
