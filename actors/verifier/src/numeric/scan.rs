//! Finds the numbers of a text, in one pass.
//!
//! What stands in a text where a number may stand is a number, or unreadable: something whose value is not that of the digits
//! in it, like `2π`, `\sqrt{2}`, `3:45`, `2-1`, `1.2.3`. Digits of names and exponents (`H2O`, `x_1`, `cm^2`) are neither.

use super::reading::{Digits, Form, Reading};

/// What stands where a number may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// What was written.
    pub(super) text: &'a str,
    /// The number; `None` if it is unreadable.
    pub(super) reading: Option<Reading<'a>>,
}

/// Bytes of the longest group in braces that is looked through.
const LONGEST_GROUP: usize = 256;

/// What may stand between thousands: `1,000`, `1{,}000`, `1\,000`, `1'000`, `1_000` and thin or fixed spaces.
const SEPARATORS: [&str; 10] = [",\\!", "{,}", "\\,", ",", "'", "’", "_", "\u{a0}", "\u{202f}", "\u{2009}"];

/// Signs of multiplication before a power of ten.
const TIMES: [&str; 8] = ["\\times", "\\cdot", "×", "·", "⋅", "*", "x", "X"];

/// Letters that stand before an amount without a space.
const CURRENCIES: [&str; 10] = ["USD", "EUR", "GBP", "CNY", "RMB", "JPY", "INR", "US", "Rs", "RM"];

/// Words for what is never a right number.
const NOT_FINITE: [&str; 3] = ["nan", "inf", "infinity"];

/// Letters that, alone and glued to a number, are a variable or a constant and no unit.
const VARIABLES: [&str; 8] = ["x", "y", "z", "n", "i", "e", "a", "b"];

const VULGAR: [(char, &str, &str); 15] = [
    ('½', "1", "2"),
    ('⅓', "1", "3"),
    ('⅔', "2", "3"),
    ('¼', "1", "4"),
    ('¾', "3", "4"),
    ('⅕', "1", "5"),
    ('⅖', "2", "5"),
    ('⅗', "3", "5"),
    ('⅘', "4", "5"),
    ('⅙', "1", "6"),
    ('⅚', "5", "6"),
    ('⅛', "1", "8"),
    ('⅜', "3", "8"),
    ('⅝', "5", "8"),
    ('⅞', "7", "8"),
];

/// The numbers of a text, from the left.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Where a `\pm` ends that the next number belongs to.
    plus_minus: Option<usize>,
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        while let Some(c) = self.peek() {
            let token = match c {
                '0'..='9' => Some(self.number()),
                '.' if self.starts_decimal() => Some(self.number()),
                _ if vulgar(c).is_some() => Some(self.number()),
                '\\' => self.command(),
                '√' | '∛' => Some(self.root()),
                '∞' => Some(self.unreadable(c.len_utf8())),
                '^' | '_' => self.script(),
                _ if c.is_ascii_alphabetic() => self.word(),
                _ => {
                    self.at += c.len_utf8();
                    None
                }
            };
            if token.is_some() {
                return token;
            }
        }
        None
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, plus_minus: None }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn before(&self) -> &'a str {
        &self.text[..self.at]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, what: &str) -> bool {
        let there = self.rest().starts_with(what);
        if there {
            self.at += what.len();
        }
        there
    }

    fn take_any(&mut self, what: &[&str]) -> bool {
        what.iter().any(|what| self.take(what))
    }

    /// Skips one space, of those that are put within a number.
    fn space(&mut self) -> bool {
        self.take_any(&[" ", "\u{a0}", "\u{202f}", "\u{2009}", "\\,", "\\ ", "~"])
    }

    /// Does what `read` does, or nothing if that is `None`.
    fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let at = self.at;
        let result = read(self);
        if result.is_none() {
            self.at = at;
        }
        result
    }

    fn unreadable(&mut self, bytes: usize) -> Token<'a> {
        let start = self.at;
        self.at += bytes;
        Token { text: &self.text[start..self.at], reading: None }
    }

    /// Whether the point here begins a number: `.5`, but not that of `1.5` or `Fig.5`.
    fn starts_decimal(&self) -> bool {
        let after = self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
        after && !self.before().ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
    }

    /// A number, with everything that is glued to it.
    fn number(&mut self) -> Token<'a> {
        let (first, sign) = self.sign();
        let mut readable = sign.is_some();
        let form = self.form();
        readable &= form.is_some();
        let percent = self.percent();
        while self.glued() {
            readable = false;
        }
        let text = &self.text[first..self.at];
        let reading = form.filter(|_| readable).map(|form| Reading { negative: sign == Some(true), form, percent });
        Token { text, reading }
    }

    /// Where the number here begins, its sign and currency included, and whether it is negative; no sign can be told if what
    /// stands before changes the value.
    fn sign(&self) -> (usize, Option<bool>) {
        let currency = |c: char| "$€£¥₹".contains(c);
        let before = self.before();
        let bare = before.trim_end_matches(currency).trim_end_matches('\\');
        // A backslash counts only as part of `\$`.
        let bare = if before.ends_with(currency) { bare } else { before };
        let (unsigned, sign) = match bare.chars().next_back() {
            Some(c @ ('-' | '−' | '–' | '+')) => (&bare[..bare.len() - c.len_utf8()], Some(c != '+')),
            _ => (bare, None),
        };
        let last = unsigned.chars().next_back();
        let formula = |c: char| c.is_ascii_alphanumeric() || ")]²³".contains(c);
        // The brace of `x^{2}-5` ends a formula, that of `\text{is }-5` does not.
        let ends_formula = unsigned.ends_with(formula) || (last == Some('}') && !unsigned.ends_with(" }"));
        // `+/-5` and what a slash divides: `\pi/2`.
        let divided = last == Some('/') && !unsigned[..unsigned.len() - 1].ends_with(char::is_whitespace);
        let plus_minus = last == Some('±') || self.plus_minus.is_some_and(|end| end == before.trim_end().len());
        match sign {
            _ if divided || plus_minus => (self.at, None),
            // The sign of `(x)-5` is an operation.
            Some(_) if ends_formula => (self.at, None),
            Some(negative) => (unsigned.len(), Some(negative)),
            None => (bare.len(), Some(false)),
        }
    }

    /// The number proper, `None` if what stands here is none whose value is known.
    fn form(&mut self) -> Option<Form<'a>> {
        if let Some(form) = self.vulgar(None) {
            return Some(form);
        }
        if self.rest().starts_with('\\') {
            let (over, under, negative) = self.fraction_command()?;
            return Some(Form::Fraction { whole: None, over, under, negative });
        }
        let digits = self.digits()?;
        if let Some(exponent) = self.exponent() {
            return Some(Form::Plain(Digits { exponent, ..digits }));
        }
        if let Some(exponent) = self.superscript() {
            return Some(Form::Power(digits, exponent));
        }
        let whole = !digits.text.contains('.');
        let mixed = whole.then(|| self.mixed(digits)).flatten().or_else(|| self.vulgar(Some(digits)));
        if mixed.is_some() {
            return mixed;
        }
        match self.attempt(Self::divisor) {
            Some((under, negative)) => Some(Form::Fraction { whole: None, over: digits, under, negative }),
            None => Some(Form::Plain(digits)),
        }
    }

    /// `1,234.5` or `.5`.
    fn digits(&mut self) -> Option<Digits<'a>> {
        let start = self.at;
        let first = self.run();
        if (1..=3).contains(&first) {
            let separator = SEPARATORS.into_iter().find(|separator| self.rest().starts_with(separator));
            while separator.is_some_and(|separator| self.thousand(separator)) {}
        }
        let decimals = self.attempt(|s| (s.take(".") && s.run() > 0).then_some(()));
        let text = &self.text[start..self.at];
        (first > 0 || decimals.is_some()).then_some(Digits { text, exponent: Some(0) })
    }

    /// A run of digits; how many.
    fn run(&mut self) -> usize {
        let rest = self.rest();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        self.at += digits;
        digits
    }

    fn thousand(&mut self, separator: &str) -> bool {
        self.attempt(|s| (s.take(separator) && s.run() == 3).then_some(())).is_some()
    }

    /// `e-3`, `E5`, `× 10^{-3}`, `* 10^5`, `×10⁻³`.
    fn exponent(&mut self) -> Option<Option<i32>> {
        let written = self.attempt(|s| {
            let exponent = if s.take_any(&["e", "E"]) { s.integer()? } else { return None };
            (!s.rest().starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(exponent)
        });
        written.or_else(|| {
            self.attempt(|s| {
                s.space();
                if !s.take_any(&TIMES) {
                    return None;
                }
                s.space();
                if s.take("10") { s.superscript() } else { None }
            })
        })
    }

    /// `^5`, `^{-5}`, `⁻⁵`; the inner `None` is an exponent that does not fit.
    fn superscript(&mut self) -> Option<Option<i32>> {
        self.attempt(|s| {
            s.space();
            if s.take_any(&["^", "**"]) {
                let close = if s.take("{") {
                    "}"
                } else if s.take("(") {
                    ")"
                } else {
                    ""
                };
                let exponent = s.integer()?;
                let ends = close.is_empty() || s.take(close);
                // `10^5.5` is something else.
                return (ends && !s.decimal_point()).then_some(exponent);
            }
            let raised = |c: char| "⁻⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|raised| raised == c);
            let rest = s.rest();
            let raised_text = &rest[..rest.len() - rest.trim_start_matches(|c| raised(c).is_some()).len()];
            if raised_text.is_empty() {
                return None;
            }
            s.at += raised_text.len();
            let plain = raised_text
                .chars()
                .filter_map(raised)
                .map(|i| ["-", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"][i]);
            let plain: String = plain.collect();
            // A minus within is no exponent, and a long one does not fit.
            if plain.trim_start_matches('-').contains('-') || plain.ends_with('-') {
                None
            } else {
                Some(plain.parse().ok())
            }
        })
    }

    fn decimal_point(&self) -> bool {
        self.rest().strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// A whole number with a sign, of an exponent; the inner `None` is one that does not fit.
    fn integer(&mut self) -> Option<Option<i32>> {
        let negative = self.take_any(&["-", "−"]);
        let _ = negative || self.take("+");
        let start = self.at;
        if self.run() == 0 {
            return None;
        }
        let size = self.text[start..self.at].parse::<i32>().ok();
        Some(size.map(|size| if negative { -size } else { size }))
    }

    /// `/ 2` after a number, with its sign.
    fn divisor(&mut self) -> Option<(Digits<'a>, bool)> {
        self.space();
        if !self.take_any(&["/", "⁄", "∕"]) {
            return None;
        }
        self.space();
        let negative = self.take_any(&["-", "−"]);
        Some((self.digits()?, negative))
    }

    /// The proper fraction after a whole number: `3 1/2`, `3\frac{1}{2}`.
    fn mixed(&mut self, whole: Digits<'a>) -> Option<Form<'a>> {
        self.attempt(|s| {
            let space = s.space();
            let (over, under, negative) = if s.rest().starts_with("\\") {
                s.fraction_command()?
            } else if space {
                let over = s.digits()?;
                let (under, negative) = if s.take("/") { (s.digits()?, false) } else { return None };
                (over, under, negative)
            } else {
                return None;
            };
            let small = |digits: Digits<'_>| digits.text.parse::<u16>().ok();
            let proper = !negative && small(over)? < small(under)?;
            proper.then_some(Form::Fraction { whole: Some(whole), over, under, negative: false })
        })
    }

    /// `½`, maybe after a whole number.
    fn vulgar(&mut self, whole: Option<Digits<'a>>) -> Option<Form<'a>> {
        let (c, over, under) = vulgar(self.peek()?)?;
        self.at += c.len_utf8();
        let digits = |text| Digits { text, exponent: Some(0) };
        Some(Form::Fraction { whole, over: digits(over), under: digits(under), negative: false })
    }

    /// `\frac{1}{2}` with plain numbers; otherwise nothing is taken.
    fn fraction_command(&mut self) -> Option<(Digits<'a>, Digits<'a>, bool)> {
        self.attempt(|s| {
            if !s.take_any(&["\\frac", "\\dfrac", "\\tfrac", "\\cfrac"]) {
                return None;
            }
            s.space();
            let over = s.argument()?;
            let under = s.argument()?;
            let (over, over_negative) = plain(over)?;
            let (under, under_negative) = plain(under)?;
            Some((over, under, over_negative != under_negative))
        })
    }

    /// The argument of a command: a group in braces, or one digit.
    fn argument(&mut self) -> Option<&'a str> {
        if let Some(group) = self.group() {
            return Some(group);
        }
        let digit = self.peek().filter(char::is_ascii_digit)?;
        self.at += digit.len_utf8();
        Some(&self.text[self.at - 1..self.at])
    }

    /// The content of the group in braces here, if it is not too long.
    fn group(&mut self) -> Option<&'a str> {
        if !self.rest().starts_with('{') {
            return None;
        }
        let mut depth = 0_usize;
        for (offset, byte) in self.rest().bytes().enumerate().take(LONGEST_GROUP) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                let content = &self.rest()[1..offset];
                self.at += offset + 1;
                return Some(content);
            }
        }
        None
    }

    fn percent(&mut self) -> bool {
        let percent = |s: &mut Self| {
            s.space();
            if s.take_any(&["%", "\\%", "％"]) {
                return Some(());
            }
            let rest = s.rest();
            let word = ["percent", "per cent", "pct"]
                .into_iter()
                .find(|word| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))?;
            s.at += word.len();
            (!s.rest().starts_with(char::is_alphanumeric)).then_some(())
        };
        self.attempt(percent).is_some()
    }

    /// Takes what makes the number before it part of a formula: an operator with the next number, a variable, π.
    fn glued(&mut self) -> bool {
        let taken = self.attempt(|s| {
            let c = s.peek()?;
            let rest = &s.rest()[c.len_utf8()..];
            let digit = |text: &str| text.trim_start_matches(['-', '+', '.']).starts_with(|c: char| c.is_ascii_digit());
            match c {
                '-' | '−' | '–' | '+' | '*' | '×' | '·' | ':' | '/' | ',' | '.' | 'x' | 'X' if digit(rest) => {
                    s.at += c.len_utf8();
                    // What `digit` saw may be signs and points before it.
                    while s.take_any(&["-", "+", "."]) {}
                    s.digits().map(drop)
                }
                '²' | '³' => {
                    s.at += c.len_utf8();
                    Some(())
                }
                'a'..='z' => s.variable(),
                _ => {
                    s.space();
                    // Degrees are a unit.
                    if ["^\\circ", "^{\\circ}", "^∘"].iter().any(|degrees| s.rest().starts_with(degrees)) {
                        return None;
                    }
                    if s.take_any(&["^", "_"]) {
                        let group = s.group();
                        return group.map(drop).or_else(|| s.peek().map(|c| s.at += c.len_utf8()));
                    }
                    if s.at_root() {
                        s.root();
                        return Some(());
                    }
                    s.take_any(&["\\pi", "\\theta", "π", "θ"]).then_some(())
                }
            }
        });
        taken.is_some()
    }

    /// The letters of `2x` or `3xy`, but not those of `5kg`.
    fn variable(&mut self) -> Option<()> {
        let rest = self.rest();
        let letters = &rest[..rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len()];
        let variables = VARIABLES.contains(&letters) || letters.bytes().all(|letter| b"xyz".contains(&letter));
        variables.then(|| self.at += letters.len())
    }

    /// An exponent or an index after something that is no number: not a number of its own.
    fn script(&mut self) -> Option<Token<'a>> {
        self.at += 1;
        self.space();
        if self.group().is_none() {
            let _ = self.integer();
        }
        None
    }

    fn command(&mut self) -> Option<Token<'a>> {
        let letters = self.rest()[1..].trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let name = &self.rest()[1..self.rest().len() - letters.len()];
        match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" => {
                let start = self.at;
                let token = self.number();
                if self.at > start {
                    return Some(token);
                }
                self.at += 1 + name.len();
                let _ = self.argument().and_then(|_| self.argument());
                Some(Token { text: &self.text[start..self.at], reading: None })
            }
            "sqrt" | "cbrt" => Some(self.root()),
            "infty" => Some(self.unreadable(1 + name.len())),
            "" => {
                // An escaped character, which may be several bytes long.
                self.at += 1;
                self.at += self.peek().map_or(0, char::len_utf8);
                None
            }
            _ => {
                self.at += 1 + name.len();
                if name == "pm" || name == "mp" {
                    self.plus_minus = Some(self.at);
                }
                None
            }
        }
    }

    fn at_root(&self) -> bool {
        ["√", "∛", "\\sqrt", "\\cbrt"].iter().any(|root| self.rest().starts_with(root))
    }

    /// A root with what it is taken of.
    fn root(&mut self) -> Token<'a> {
        let start = self.at;
        if !self.take_any(&["\\sqrt", "\\cbrt"]) {
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        if self.rest().starts_with('[') {
            let index = self.rest().bytes().take(LONGEST_GROUP).position(|byte| byte == b']');
            self.at += index.map_or(1, |index| index + 1);
        }
        if self.group().is_none() {
            self.take("(");
            let _ = self.digits();
        }
        Token { text: &self.text[start..self.at], reading: None }
    }

    /// A word, or a name with digits in it.
    fn word(&mut self) -> Option<Token<'a>> {
        let rest = self.rest();
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let word = &rest[..letters];
        if CURRENCIES.contains(&word) {
            self.at += letters;
            return None;
        }
        if NOT_FINITE.iter().any(|name| name.eq_ignore_ascii_case(word)) {
            return Some(self.unreadable(letters));
        }
        self.at += rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).len();
        // `GPT-4`, `x-5`.
        while self.attempt(|s| (s.take("-") && s.run() > 0).then_some(())).is_some() {}
        None
    }
}

fn vulgar(c: char) -> Option<(char, &'static str, &'static str)> {
    VULGAR.into_iter().find(|(vulgar, ..)| *vulgar == c)
}

/// The whole text as digits with a sign.
fn plain(text: &str) -> Option<(Digits<'_>, bool)> {
    let text = text.trim();
    let unsigned = text.trim_start_matches(['-', '−']);
    let mut scanner = Scanner::new(unsigned);
    let digits = scanner.digits()?;
    let one_sign = text.chars().count() - unsigned.chars().count() <= 1;
    (scanner.rest().is_empty() && one_sign).then_some((digits, unsigned.len() < text.len()))
}
