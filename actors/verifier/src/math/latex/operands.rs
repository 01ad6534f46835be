//! Operands: numbers, symbols, words, fractions, roots and functions, with what stands behind them (powers, factorials).

use dashu::base::ParseError as DigitError;
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use super::functions::{apply, cis};
use super::grammar::{one_or, sum};
use super::groups::{bars, braces, brackets, environment};
use super::input::{Failure, Input, Parsed, accept, expect, fail, nested, next, peek, peek_at, rest};
use super::lists::list;
use super::products::{product, selections};
use super::token::{Fence, Kind, Numeral};
use crate::math::{Constant, Expr, Function, Number, Relation};

/// The most powers, factorials and percent signs behind one operand.
const LONGEST_TAIL: usize = 6;

/// The largest exponent of scientific notation that is multiplied out.
const LARGEST_EXPONENT: i32 = 400;

/// An operand and what stands behind it.
pub(super) fn factor(i: &mut Input<'_, '_>) -> Parsed {
    let mut value = nested(i, i.state.within, primary)?;
    for _ in 0..LONGEST_TAIL {
        value = match peek(i) {
            Some(Kind::Caret) => power(i, value)?,
            Some(Kind::Bang) => {
                next(i)?;
                Expr::Factorial(Box::new(value))
            }
            Some(Kind::Percent) => {
                next(i)?;
                Expr::Percent(Box::new(value))
            }
            Some(Kind::Degree) => {
                next(i)?;
                degrees(i, value)?
            }
            Some(Kind::Underscore) => subscripted(i, value)?,
            _ => return Ok(value),
        };
    }
    match peek(i) {
        Some(Kind::Caret | Kind::Bang | Kind::Percent | Kind::Degree | Kind::Underscore) => Err(Failure::Budget),
        _ => Ok(value),
    }
}

/// What follows `^`: a power, or the small circle of degrees, a prime, an ordinal's ending.
fn power(i: &mut Input<'_, '_>, base: Expr) -> Parsed {
    expect(i, Kind::Caret)?;
    let group = usize::from(peek(i) == Some(Kind::GroupOpen));
    let closes = |kind| group == 0 || kind == Some(Kind::GroupClose);
    let special = match peek_at(i, group) {
        Some(Kind::Degree | Kind::Letter('o') | Kind::Word("o")) if matches!(base, Expr::Number(_)) => {
            Some(Kind::Degree)
        }
        Some(Kind::Degree) => Some(Kind::Degree),
        Some(Kind::Prime) => Some(Kind::Prime),
        Some(kind @ (Kind::Word(_) | Kind::Plus | Kind::Minus | Kind::Times)) => Some(kind),
        _ => None,
    };
    if let Some(kind) = special.filter(|_| closes(peek_at(i, group + 1)))
        && (group == 1
            || !matches!(kind, Kind::Plus | Kind::Minus | Kind::Times)
            || !peek_at(i, 1).is_some_and(|k| k.starts_operand()))
    {
        let mark = rest(i).get(group).copied();
        for _ in 0..=2 * group {
            next(i)?;
        }
        return match kind {
            Kind::Degree => degrees(i, base),
            Kind::Prime => Ok(primed(base)),
            Kind::Word(word) => Ok(Expr::Unit(Box::new(base), word.to_owned())),
            _ => {
                let sign = mark.map_or("", |t| &i.state.text[t.at..t.end]);
                Ok(Expr::Power(Box::new(base), Box::new(Expr::Symbol(sign.to_owned()))))
            }
        };
    }
    let exponent = nested(i, Default::default(), exponent)?;
    if let (Expr::Symbol(name), Expr::Number(_) | Expr::Symbol(_)) = (&base, &exponent)
        && let Some(n) = name.strip_prefix("C_")
    {
        i.state.ambiguous = true;
        if i.state.alternative {
            let n = n.parse().map_or_else(|_| Expr::Symbol(n.to_owned()), whole_number);
            return Ok(Expr::Binomial(Box::new(n), Box::new(exponent)));
        }
    }
    Ok(Expr::Power(Box::new(base), Box::new(exponent)))
}

/// `{}_{n}C_{k}`, `^{n}P_{k}`: selections.
fn choose(i: &mut Input<'_, '_>) -> Parsed {
    next(i)?;
    let n = argument(i)?;
    let ordered = accept(i, Kind::Letter('P'));
    if !ordered {
        expect(i, Kind::Letter('C'))?;
    }
    expect(i, Kind::Underscore)?;
    let k = argument(i)?;
    Ok(selections(ordered, n, k))
}

/// An exponent: a group, or a sign and an operand; further powers belong to it.
pub(super) fn exponent(i: &mut Input<'_, '_>) -> Parsed {
    let mut negative = false;
    while let Some(Kind::Minus | Kind::Plus) = peek(i) {
        negative ^= next(i)?.kind == Kind::Minus;
    }
    let mut value = argument(i)?;
    if peek(i) == Some(Kind::Bang) {
        next(i)?;
        value = Expr::Factorial(Box::new(value));
    }
    if peek(i) == Some(Kind::Caret) {
        value = nested(i, Default::default(), |i| power(i, value))?;
    }
    Ok(if negative { Expr::Negate(Box::new(value)) } else { value })
}

/// `°`, with °C and °F, and with the minutes that follow: `45^\circ 30'`.
fn degrees(i: &mut Input<'_, '_>, value: Expr) -> Parsed {
    let scale = match rest(i) {
        [scale, after @ ..] if !scale.spaced || scale.text || after.is_empty() => match scale.kind {
            Kind::Letter('C') | Kind::Word("C" | "Celsius" | "celsius") => Some('C'),
            Kind::Letter('F') | Kind::Word("F" | "Fahrenheit" | "fahrenheit") => Some('F'),
            _ => None,
        },
        _ => None,
    };
    let Some(scale) = scale else { return with_minutes(i, value) };
    next(i)?;
    Ok(Expr::Unit(Box::new(value), format!("°{scale}")))
}

/// `45^\circ 30'`, `45^\circ 30^{\prime}`: the minutes behind degrees, if any.
fn with_minutes(i: &mut Input<'_, '_>, degrees: Expr) -> Parsed {
    let kinds: Vec<Kind<'_>> = rest(i).iter().take(5).map(|token| token.kind).collect();
    let (minutes, length) = match kinds.as_slice() {
        [Kind::Number(minutes), Kind::Prime, ..] => (*minutes, 2),
        [Kind::Number(minutes), Kind::Caret, Kind::Prime, ..] => (*minutes, 3),
        [Kind::Number(minutes), Kind::Caret, Kind::GroupOpen, Kind::Prime, Kind::GroupClose] => (*minutes, 5),
        _ => return Ok(Expr::Degrees(Box::new(degrees))),
    };
    if !minutes.is_digits() {
        return Ok(Expr::Degrees(Box::new(degrees)));
    }
    for _ in 0..length {
        next(i)?;
    }
    let Some(minutes) = literal(minutes) else { return fail(i) };
    let part = Expr::Quotient(Box::new(Expr::Number(minutes)), Box::new(whole_number(60)));
    Ok(Expr::Degrees(Box::new(Expr::Sum(vec![degrees, part]))))
}

/// A subscript behind something other than a symbol: the base of a numeral, else part of nothing and refused.
fn subscripted(i: &mut Input<'_, '_>, value: Expr) -> Parsed {
    expect(i, Kind::Underscore)?;
    let subscript = subscript(i)?;
    match value {
        Expr::Number(number) => match subscript.parse() {
            Ok(base @ 2..=36) => Ok(Expr::Based(number, base)),
            _ => fail(i),
        },
        Expr::Symbol(name) => Ok(Expr::Symbol(format!("{name}_{subscript}"))),
        // `\mathbb{R}_{>0}` and `\mathbb{R}_+` are the same part of the numbers as `\mathbb{R}^+`.
        Expr::NumberSet(_) => {
            let sign = match subscript.as_str() {
                "+" | ">0" => "+",
                "-" | "<0" => "-",
                "\\ge0" | "\\geq0" | "\\geqslant0" | "≥0" => "≥0",
                _ => return fail(i),
            };
            Ok(Expr::Power(Box::new(value), Box::new(Expr::Symbol(sign.to_owned()))))
        }
        // `(A)_1`, `\mathbf{v}_1`
        Expr::Text(name) => Ok(Expr::Text(format!("{name}_{subscript}"))),
        _ => fail(i),
    }
}

/// The text of a subscript without markup and spaces.
fn subscript(i: &mut Input<'_, '_>) -> Parsed<String> {
    let mut text = String::new();
    let mut open = 0_usize;
    loop {
        let token = next(i)?;
        match token.kind {
            Kind::GroupOpen => open += 1,
            Kind::GroupClose if open == 0 => return fail(i),
            Kind::GroupClose => open -= 1,
            _ => text.push_str(&i.state.text[token.at..token.end]),
        }
        if open == 0 {
            return Ok(text);
        }
    }
}

fn primed(value: Expr) -> Expr {
    match value {
        Expr::Symbol(name) => Expr::Symbol(format!("{name}'")),
        value => Expr::Unit(Box::new(value), "'".to_owned()),
    }
}

/// The argument of `\frac`, `\sqrt` or `^`: a group, or one operand without what stands behind it.
pub(super) fn argument(i: &mut Input<'_, '_>) -> Parsed {
    match peek(i) {
        Some(Kind::GroupOpen) => group(i),
        Some(_) => nested(i, Default::default(), primary),
        None => fail(i),
    }
}

/// What is in braces, which must be one expression.
pub(super) fn group(i: &mut Input<'_, '_>) -> Parsed {
    expect(i, Kind::GroupOpen)?;
    let inside = nested(i, Default::default(), |i| {
        let items = list(i)?;
        if items.is_empty() { fail(i) } else { Ok(one_or(Expr::List, items)) }
    })?;
    // At the end a brace may have been cut off.
    if peek(i).is_some() {
        expect(i, Kind::GroupClose)?;
    }
    Ok(inside)
}

pub(super) fn primary(i: &mut Input<'_, '_>) -> Parsed {
    let Some(kind) = peek(i) else { return fail(i) };
    match kind {
        Kind::Number(numeral) => number(i, numeral),
        Kind::Letter(_) | Kind::Name(_) => symbol(i),
        Kind::Word(word) => words(i, word),
        Kind::Constant(constant) => {
            next(i)?;
            Ok(Expr::Constant(constant))
        }
        Kind::Function(function) => apply(i, function, None),
        Kind::Cis => cis(i),
        Kind::LogTen => apply(i, Function::Log, Some(whole_number(10))),
        Kind::Frac => {
            next(i)?;
            let above = argument(i)?;
            Ok(Expr::Quotient(Box::new(above), Box::new(argument(i)?)))
        }
        Kind::Binom => {
            next(i)?;
            let above = argument(i)?;
            Ok(Expr::Binomial(Box::new(above), Box::new(argument(i)?)))
        }
        Kind::Sqrt | Kind::Cbrt => root(i),
        Kind::Overline => overline(i),
        Kind::Caret | Kind::Underscore => choose(i),
        Kind::Big(name) => big(i, name),
        Kind::NumberSet(letter) => {
            next(i)?;
            Ok(Expr::NumberSet(letter))
        }
        Kind::EmptySet => {
            next(i)?;
            Ok(Expr::Set(Vec::new()))
        }
        Kind::Dots => {
            next(i)?;
            Ok(Expr::Symbol("…".into()))
        }
        Kind::Currency(sign) => {
            next(i)?;
            let negative = accept(i, Kind::Minus);
            let value = nested(i, i.state.within, product)?;
            let value = if negative { Expr::Negate(Box::new(value)) } else { value };
            Ok(Expr::Unit(Box::new(value), sign.to_owned()))
        }
        Kind::Open(_) | Kind::Close(Fence::Square) => brackets(i),
        Kind::Boxed => {
            next(i)?;
            argument(i)
        }
        Kind::GroupOpen => braces(i),
        Kind::Bar(_) | Kind::DoubleBar(_) => bars(i),
        Kind::Begin(name) => environment(i, name),
        _ => fail(i),
    }
}

pub(super) fn whole_number(n: u32) -> Expr {
    Expr::Number(Number { value: RBig::from(n), decimals: None, repeating: false })
}

/// A literal; `3 1/2` is a mixed number, `0.\overline{3}` repeats.
fn number(i: &mut Input<'_, '_>, numeral: Numeral<'_>) -> Parsed {
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
fn literal(numeral: Numeral<'_>) -> Option<Number> {
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

/// A variable with its subscript and primes; a function that has a name only, with its arguments.
fn symbol(i: &mut Input<'_, '_>) -> Parsed {
    let token = next(i)?;
    let mut name = match token.kind {
        Kind::Letter(letter) => letter.to_string(),
        Kind::Name(name) => name.to_owned(),
        _ => return fail(i),
    };
    let bare = name.len();
    loop {
        match peek(i) {
            Some(Kind::Underscore) => {
                next(i)?;
                let subscript = subscript(i)?;
                name.push('_');
                name.push_str(&subscript);
            }
            Some(Kind::Prime) => {
                next(i)?;
                name.push('\'');
            }
            _ => break,
        }
        if name.len() > 256 {
            return fail(i);
        }
    }
    let function = matches!(token.kind, Kind::Letter('f' | 'g' | 'h' | 'F' | 'G' | 'H') | Kind::Name("phi" | "psi"));
    if function && let Some(inverse) = inverse_mark(i) {
        for _ in 0..inverse {
            next(i)?;
        }
        name.push_str("^{-1}");
    }
    if let Some(length) = statement_of_chance(i, &name) {
        let (first, last) = (rest(i)[0], rest(i)[length - 1]);
        for _ in 0..length {
            next(i)?;
        }
        return Ok(Expr::Symbol(format!("{name}{}", &i.state.text[first.at..last.end])));
    }
    if calls(i, function) {
        let arguments = nested(i, Default::default(), arguments)?;
        return Ok(Expr::Call(name, arguments));
    }
    Ok(match name.as_str() {
        "e" if bare == name.len() => Expr::Constant(Constant::E),
        "i" if bare == name.len() => Expr::Constant(Constant::I),
        _ => Expr::Symbol(name),
    })
}

/// Whether `^{-1}` and a bracket follow; the number of its tokens.
fn inverse_mark(i: &Input<'_, '_>) -> Option<usize> {
    let one = |kind| matches!(kind, Kind::Number(numeral) if numeral.text == "1");
    match rest(i) {
        [caret, open, minus, digit, close, bracket, ..]
            if caret.kind == Kind::Caret
                && open.kind == Kind::GroupOpen
                && minus.kind == Kind::Minus
                && one(digit.kind)
                && close.kind == Kind::GroupClose
                && bracket.kind == Kind::Open(Fence::Round) =>
        {
            Some(5)
        }
        _ => None,
    }
}

/// `P(X = 4) =`, `E[X] =`: a probability or mean that is said to be something; how many tokens its brackets hold, them included.
fn statement_of_chance(i: &Input<'_, '_>, name: &str) -> Option<usize> {
    const LONGEST: usize = 24;
    let close = match (name, peek(i)?) {
        ("P" | "Pr" | "E" | "V", Kind::Open(Fence::Round)) => Kind::Close(Fence::Round),
        ("P" | "Pr" | "E" | "V", Kind::Open(Fence::Square)) => Kind::Close(Fence::Square),
        _ => return None,
    };
    let length = rest(i).iter().take(LONGEST).position(|token| token.kind == close)? + 1;
    let says = matches!(peek_at(i, length)?, Kind::Relation(Relation::Equal | Relation::Approximately));
    (says && !rest(i)[1..length].iter().any(|token| matches!(token.kind, Kind::Open(_)))).then_some(length)
}

/// Whether a bracket with arguments follows. Letters that seldom name functions do so in `P(x) =`.
fn calls(i: &Input<'_, '_>, function: bool) -> bool {
    match rest(i) {
        [open, ..] if function => open.kind == Kind::Open(Fence::Round) && !open.spaced,
        [open, argument, close, relation, ..] => {
            open.kind == Kind::Open(Fence::Round)
                && matches!(argument.kind, Kind::Letter(_) | Kind::Number(_) | Kind::Name(_))
                && close.kind == Kind::Close(Fence::Round)
                && matches!(relation.kind, Kind::Relation(_))
        }
        _ => false,
    }
}

/// Arguments in round brackets.
fn arguments(i: &mut Input<'_, '_>) -> Parsed<Vec<Expr>> {
    expect(i, Kind::Open(Fence::Round))?;
    let items = list(i)?;
    expect(i, Kind::Close(Fence::Round))?;
    if items.is_empty() { fail(i) } else { Ok(items) }
}

/// Words in a row; before a number some only introduce it or are its currency.
fn words(i: &mut Input<'_, '_>, first: &str) -> Parsed {
    const INTRODUCE: &[&str] = &[
        "approximately",
        "about",
        "exactly",
        "roughly",
        "approx",
        "equals",
        "is",
        "around",
        "maybe",
        "perhaps",
        "possibly",
        "either",
        "both",
    ];
    const CURRENCIES: &[&str] = &["Rs", "USD", "EUR", "GBP", "RMB", "US"];
    let value_follows = |kind: Option<Kind<'_>>| {
        kind.is_some_and(|k| {
            k.starts_operand() && !matches!(k, Kind::Letter(_)) || matches!(k, Kind::Minus | Kind::Currency(_))
        })
    };
    let after = if peek_at(i, 1) == Some(Kind::Dot) { 2 } else { 1 };
    if INTRODUCE.contains(&first) && value_follows(peek_at(i, 1)) {
        next(i)?;
        return nested(i, i.state.within, sum);
    }
    if CURRENCIES.contains(&first) && value_follows(peek_at(i, after)) {
        for _ in 0..after {
            next(i)?;
        }
        let value = nested(i, i.state.within, product)?;
        return Ok(Expr::Unit(Box::new(value), first.to_owned()));
    }
    let mut text = String::new();
    while let Some(token) = rest(i).first().copied() {
        if !matches!(token.kind, Kind::Word(_) | Kind::Letter(_) | Kind::Prime) {
            break;
        }
        if token.spaced && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&i.state.text[token.at..token.end]);
        next(i)?;
    }
    Ok(Expr::Text(text))
}

/// `\sqrt[3]{x}`, `\sqrt2`, `sqrt(2)`.
fn root(i: &mut Input<'_, '_>) -> Parsed {
    let cube = next(i)?.kind == Kind::Cbrt;
    let mut index = whole_number(if cube { 3 } else { 2 });
    if accept(i, Kind::Open(Fence::Square)) {
        index = nested(i, Default::default(), sum)?;
        expect(i, Kind::Close(Fence::Square))?;
    }
    let radicand = argument(i)?;
    Ok(Expr::Root(Box::new(radicand), Box::new(index)))
}

/// A bar over something: the name of a segment, digits as they stand, else a conjugate.
fn overline(i: &mut Input<'_, '_>) -> Parsed {
    next(i)?;
    let letters =
        rest(i).iter().skip(1).take_while(|t| matches!(t.kind, Kind::Letter(c) if c.is_ascii_uppercase())).count();
    if letters >= 2 && peek_at(i, letters + 1) == Some(Kind::GroupClose) {
        return Ok(Expr::Symbol(subscript(i)?));
    }
    let inside = argument(i)?;
    Ok(Expr::Apply(Function::Conjugate, vec![inside]))
}

/// `\sum_{k=1}^{n} a_k`.
fn big(i: &mut Input<'_, '_>, name: &str) -> Parsed {
    next(i)?;
    let (mut below, mut above) = (None, None);
    for _ in 0..2 {
        let slot = match peek(i) {
            Some(Kind::Underscore) => &mut below,
            Some(Kind::Caret) => &mut above,
            _ => break,
        };
        next(i)?;
        let negative = accept(i, Kind::Minus);
        let limit = argument(i)?;
        *slot = Some(Box::new(if negative { Expr::Negate(Box::new(limit)) } else { limit }));
    }
    let body = nested(i, i.state.within, product)?;
    Ok(Expr::Big(name.to_owned(), below, above, Box::new(body)))
}
