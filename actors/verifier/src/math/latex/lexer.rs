//! Text to tokens: one pass, no recursion, one step of the budget a token.

use winnow::ascii::{alpha1, digit1};
use winnow::combinator::{alt, delimited, opt, preceded};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, take_while};

use super::commands::{Command, command, sign};
use super::token::{Fence, Kind, Numeral, Side, Token};
use super::words::{Before, Run, classify, is_unit_letter};
use crate::math::{Budget, OverBudget, Relation};

type Source<'a> = LocatingSlice<&'a str>;

/// The tokens of a text.
pub(super) fn tokens<'a>(text: &'a str, budget: &mut Budget) -> Result<Vec<Token<'a>>, OverBudget> {
    let mut lexer = Lexer {
        source: LocatingSlice::new(text),
        tokens: Vec::with_capacity(text.len() / 2 + 4),
        spaced: false,
        braces: 0,
        text: None,
        dollars: text.matches('$').count(),
        formula: None,
        raw: text,
    };
    lexer.formula = lexer.bounded_formulas().then_some(false);
    while !lexer.rest().is_empty() {
        budget.spend(1)?;
        lexer.step();
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: Source<'a>,
    tokens: Vec<Token<'a>>,
    /// White space was passed since the last token.
    spaced: bool,
    /// Open braces.
    braces: usize,
    /// Inside `\text{…}`: how many braces were open before it.
    text: Option<usize>,
    /// Dollar signs in the whole text: an odd one is a currency.
    dollars: usize,
    /// In a text that says by delimiters which parts of it are formulas: whether this part is one.
    formula: Option<bool>,
    raw: &'a str,
}

/// Commands that are often written without the space that must follow them.
const GLUED: &[&str] = &["qquad", "quad", "cdot", "times", "infty", "theta", "alpha", "beta", "pi", "pm"];

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.raw[self.at()..]
    }

    fn at(&self) -> usize {
        self.source.current_token_start()
    }

    fn push(&mut self, kind: Kind<'a>, at: usize) {
        let end = self.at();
        self.push_between(kind, at, end);
    }

    fn push_between(&mut self, kind: Kind<'a>, at: usize, end: usize) {
        self.tokens.push(Token { kind, at, end, spaced: self.spaced, text: self.in_words() });
        self.spaced = false;
    }

    /// Letters are words here: inside `\text{…}`, or between formulas.
    fn in_words(&self) -> bool {
        self.text.is_some() || self.formula == Some(false)
    }

    /// Whether the text has formulas between delimiters, all in pairs.
    fn bounded_formulas(&self) -> bool {
        let pairs = |open, close| self.raw.matches(open).count() == self.raw.matches(close).count();
        let delimited = self.dollars > 0 || self.raw.contains("\\(") || self.raw.contains("\\[");
        delimited && self.dollars.is_multiple_of(2) && pairs("\\(", "\\)") && !self.raw.contains("\\$")
    }

    /// Passes a delimiter of formulas.
    fn toggle(&mut self, inside: Option<bool>) {
        self.formula = self.formula.map(|formula| inside.unwrap_or(!formula));
        self.spaced = true;
    }

    /// Takes what a parser recognises off the front; `None`, and nothing taken, if it does not.
    fn take<O>(&mut self, mut parser: impl Parser<Source<'a>, O, EmptyError>) -> Option<O> {
        opt(parser.by_ref()).parse_next(&mut self.source).ok().flatten()
    }

    /// Reads what comes next: at least one character.
    fn step(&mut self) {
        let at = self.at();
        let Some(first) = self.rest().chars().next() else { return };
        match first {
            _ if first.is_whitespace() => {
                self.take(take_while(1.., char::is_whitespace));
                self.spaced = true;
            }
            '\\' => self.backslash(at),
            '0'..='9' => self.number(at),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(at),
            'a'..='z' | 'A'..='Z' => self.letters(at),
            _ => {
                self.take(any);
                self.character(first, at);
            }
        }
    }

    /// `12`, `1.5`, `.5`, `1.5e-3`; `0.` before the bar of a repeating decimal.
    fn number(&mut self, at: usize) {
        let integer = self.take(digit1).is_some();
        let fraction = self.take(('.', digit1)).is_some();
        if integer && !fraction {
            let repeats = ["\\overline", "\\bar", "\\dot{", "\\dot "];
            if self.rest().strip_prefix('.').is_some_and(|rest| repeats.iter().any(|r| rest.starts_with(r))) {
                self.take('.');
            }
        }
        self.take((alt(('e', 'E')), opt(alt(('+', '-'))), digit1));
        let text = &self.raw[at..self.at()];
        self.push(Kind::Number(Numeral { text, comma: false }), at);
    }

    fn letters(&mut self, at: usize) {
        let in_text = self.in_words();
        let Some(mut run) = self.take(alpha1) else { return };
        // In words `'` and `-` are letters: `don't`, `x-axis`.
        if in_text {
            while self.take((alt(('-', '\'', '’')), alpha1)).is_some() {}
        } else if run.len() > 1 {
            self.take((alt(('\'', '’')), alpha1));
        }
        run = &self.raw[at..at + run.len().max(self.at() - at)];
        if let Some(word) = ["or", "and"].into_iter().find(|word| run.starts_with(word))
            && run.len() == word.len() + 1
            && run.ends_with(|c: char| c.is_ascii_uppercase() || c == 'x')
            && self.before().operand
        {
            // `x=1orx=2`
            self.push_between(Kind::And, at, at + word.len());
            return self.each_letter(&run[word.len()..], at + word.len());
        }
        let before = self.before();
        if run.len() == 1 {
            return self.letter(run.chars().next().unwrap_or('?'), before, at);
        }
        // `24\text{ in}^3`
        let after = self.rest().trim_start_matches(['}', ' ', '.']);
        if run == "in" && in_text && (after.is_empty() || after.starts_with('^')) {
            return self.push(Kind::Word(run), at);
        }
        match classify(run, before, in_text) {
            Run::Token(kind) => self.push(kind, at),
            Run::Letters => self.each_letter(run, at),
            Run::Function(function, length) => {
                self.push_between(Kind::Function(function), at, at + length);
                self.each_letter(&run[length..], at + length);
            }
        }
    }

    fn each_letter(&mut self, run: &'a str, at: usize) {
        for (offset, letter) in run.char_indices() {
            self.push_between(Kind::Letter(letter), at + offset, at + offset + 1);
        }
    }

    /// One letter alone: mostly a variable, but `3 x 10^5`, `(0,1) U (2,3)`, `5 m`.
    fn letter(&mut self, letter: char, before: Before, at: usize) {
        let rest = self.rest().trim_start();
        let spaced_after = rest.len() < self.rest().len();
        let kind = match letter {
            'x' | 'X'
                if before.operand
                    && rest.starts_with(|c: char| c.is_ascii_digit())
                    && (rest.starts_with("10^") || (self.spaced && spaced_after)) =>
            {
                Kind::Times
            }
            'U' if before.closed && rest.starts_with(['(', '[', '{', '\\', ']']) => Kind::Union,
            'i' | 'e' if self.stands_alone(at) => Kind::Letter(letter),
            _ if self.text.is_some() && before.operand => Kind::Word(&self.raw[at..at + 1]),
            _ if is_unit_letter(letter) && self.in_words() && before.operand => Kind::Word(&self.raw[at..at + 1]),
            _ => Kind::Letter(letter),
        };
        self.push(kind, at);
    }

    /// `\mathrm{i}`: one letter in braces of its own names a constant, no unit.
    fn stands_alone(&self, at: usize) -> bool {
        let upright = ["\\mathrm{", "\\text{", "\\operatorname{", "\\rm{"];
        self.rest().starts_with('}') && upright.iter().any(|command| self.raw[..at].ends_with(command))
    }

    fn before(&self) -> Before {
        let Some(last) = self.tokens.last() else { return Before::default() };
        let number = matches!(last.kind, Kind::Number(_));
        let operand = number
            || matches!(
                last.kind,
                Kind::Close(_)
                    | Kind::GroupClose
                    | Kind::Letter(_)
                    | Kind::Name(_)
                    | Kind::Constant(_)
                    | Kind::Bang
                    | Kind::Percent
                    | Kind::Degree
                    | Kind::Bar(_)
            );
        let closed = matches!(last.kind, Kind::Close(_) | Kind::GroupClose);
        Before { operand, number, closed }
    }

    fn backslash(&mut self, at: usize) {
        if let Some(name) = self.take(preceded('\\', alpha1)) {
            return self.named(name, at);
        }
        let escaped = self.take(preceded('\\', opt(any))).flatten();
        let kind = match escaped {
            Some('\\') => {
                // `\\[2pt]`
                self.take(('[', take_while(0..8, |c: char| c.is_ascii_alphanumeric() || c == '.'), ']'));
                Kind::NewLine
            }
            Some('{') => Kind::Open(Fence::Curly),
            Some('}') => Kind::Close(Fence::Curly),
            Some('|') => Kind::DoubleBar(Side::Either),
            Some('%') => Kind::Percent,
            Some('$') => Kind::Currency("$"),
            Some('&') => Kind::And,
            Some('!') => return self.negative_space(),
            Some('(' | '[') => return self.toggle(Some(true)),
            Some(')' | ']') => return self.toggle(Some(false)),
            // `\,` and the like; a backslash at the end.
            _ => {
                self.spaced |= !matches!(escaped, Some('/') | None);
                return;
            }
        };
        self.push(kind, at);
    }

    /// `\!` takes space away: `1,\! 000` is one number.
    fn negative_space(&mut self) {
        self.take(take_while(0.., char::is_whitespace));
        self.spaced = false;
        if let Some(last) = self.tokens.last_mut()
            && last.kind == Kind::Comma
        {
            last.kind = Kind::GroupComma;
        }
    }

    fn named(&mut self, name: &'a str, at: usize) {
        let (name, found) = match command(name) {
            Some(found) => (name, Some(found)),
            // `\quadx`
            None => match GLUED.iter().find(|glued| name.starts_with(**glued)) {
                Some(glued) => (&name[..glued.len()], command(glued)),
                None => (name, None),
            },
        };
        self.source = LocatingSlice::new(self.raw);
        let _passed = self.source.next_slice(at + 1 + name.len());
        match found {
            Some(found) => self.command(found, at),
            None => self.push(Kind::Name(name), at),
        }
    }

    fn command(&mut self, command: Command, at: usize) {
        match command {
            Command::Token(kind) => self.push(kind, at),
            Command::Space => self.spaced = true,
            Command::Transparent => {}
            Command::Size(side) => self.delimiter(side),
            Command::Text => self.open_text(),
            Command::Begin | Command::End => {
                let name = self.argument().unwrap_or("");
                let name = name.trim_end_matches('*');
                if matches!(command, Command::Begin) {
                    if matches!(name, "array" | "tabular") {
                        self.argument();
                    }
                    self.push(Kind::Begin(name), at);
                } else {
                    self.push(Kind::End(name), at);
                }
            }
            Command::Blackboard => {
                let set =
                    self.argument().or_else(|| self.take(preceded(opt(' '), take_while(1, char::is_alphanumeric))));
                let kind = match set.and_then(|name| name.trim().chars().next()) {
                    Some(letter @ ('R' | 'Q' | 'Z' | 'N' | 'C')) => Kind::NumberSet(letter),
                    other => Kind::Letter(other.unwrap_or('?')),
                };
                self.push(kind, at);
            }
            Command::Drop => {
                self.argument();
                self.spaced = true;
            }
        }
    }

    /// The delimiter behind `\left`, `\right` or `\middle`.
    fn delimiter(&mut self, side: Side) {
        self.take(take_while(0.., char::is_whitespace));
        let at = self.at();
        let kind = if self.take('.').is_some() {
            return;
        } else if self.take(alt(("|", "\\vert", "\\lvert", "\\rvert"))).is_some() {
            if side == Side::Either { Kind::Mid } else { Kind::Bar(side) }
        } else if self.take(alt(("\\|", "\\Vert", "\\lVert", "\\rVert"))).is_some() {
            Kind::DoubleBar(side)
        } else if self.rest().starts_with("{") && side == Side::Left
            || self.rest().starts_with("}") && side == Side::Right
        {
            // `\left{` for `\left\{`.
            self.take(any);
            if side == Side::Left { Kind::Open(Fence::Curly) } else { Kind::Close(Fence::Curly) }
        } else {
            return;
        };
        self.push(kind, at);
    }

    fn open_text(&mut self) {
        self.take(take_while(0.., char::is_whitespace));
        if self.take('{').is_some() {
            self.text = self.text.or(Some(self.braces));
            self.braces += 1;
            self.spaced = true;
        }
    }

    /// The text in the braces that follow at once, without nested ones.
    fn argument(&mut self) -> Option<&'a str> {
        let inside = take_while(0..64, |c: char| c != '{' && c != '}');
        self.take(preceded(opt(' '), delimited('{', inside, '}')))
    }

    fn character(&mut self, c: char, at: usize) {
        let kind = match c {
            '{' => return self.open_brace(at),
            '}' => return self.close_brace(at),
            '(' => Kind::Open(Fence::Round),
            ')' => Kind::Close(Fence::Round),
            '[' => Kind::Open(Fence::Square),
            ']' => Kind::Close(Fence::Square),
            '|' if self.take('|').is_some() => {
                // `||x|-1|` is two bars, `||v||` a norm; the grammar knows only single ones here.
                self.push_between(Kind::Bar(Side::Either), at, at + 1);
                Kind::Bar(Side::Either)
            }
            '|' => Kind::Bar(Side::Either),
            '+' if self.take(alt(("/-", "-"))).is_some() => Kind::PlusMinus,
            '+' => Kind::Plus,
            '-' if self.take('>').is_some() => Kind::Arrow,
            '-' => Kind::Minus,
            '*' if self.take('*').is_some() => Kind::Caret,
            '*' => Kind::Times,
            '/' => Kind::Divide,
            '^' => Kind::Caret,
            '_' => Kind::Underscore,
            '\'' => Kind::Prime,
            '!' if self.take('=').is_some() => Kind::Relation(Relation::NotEqual),
            '!' => Kind::Bang,
            '%' => Kind::Percent,
            ':' => Kind::Colon,
            ',' => Kind::Comma,
            ';' => Kind::Semicolon,
            '.' if self.take("..").is_some() => Kind::Dots,
            '.' => Kind::Dot,
            '=' if self.take(alt(('<', '>'))).is_some() => self.arrow_or_relation(at),
            '=' => {
                self.take('=');
                Kind::Relation(Relation::Equal)
            }
            '<' if self.take('=').is_some() => Kind::Relation(Relation::LessEqual),
            '<' if self.take('>').is_some() => Kind::Relation(Relation::NotEqual),
            '<' => Kind::Relation(Relation::Less),
            '>' if self.take('=').is_some() => Kind::Relation(Relation::GreaterEqual),
            '>' => Kind::Relation(Relation::Greater),
            '~' if self.take('=').is_some() => Kind::Relation(Relation::Approximately),
            '~' => {
                self.spaced = true;
                return;
            }
            '&' => Kind::Ampersand,
            '$' => return self.dollar(at),
            '"' | '`' | '“' | '”' => return,
            _ => sign(c).unwrap_or(Kind::Unknown(c)),
        };
        self.push(kind, at);
    }

    /// `=>` is an arrow, `=<` a clumsy `<=`.
    fn arrow_or_relation(&self, at: usize) -> Kind<'a> {
        if self.raw[at..].starts_with("=>") { Kind::Implies } else { Kind::Relation(Relation::LessEqual) }
    }

    fn open_brace(&mut self, at: usize) {
        let space = || take_while(0.., char::is_whitespace);
        if self.take((space(), ',', space(), '}')).is_some() {
            return self.push(Kind::GroupComma, at);
        }
        // `12{:}30`, `x{=}5`: braces around a sign only take its space away.
        if self.rest().get(1..2) == Some("}") && self.rest().starts_with([':', '=', '<', '>', '+', '-', '*', '/']) {
            if let Some(sign) = self.take(any) {
                self.character(sign, at + 1);
            }
            self.take('}');
            return;
        }
        self.braces += 1;
        self.push(Kind::GroupOpen, at);
    }

    fn close_brace(&mut self, at: usize) {
        self.braces = self.braces.saturating_sub(1);
        if self.text == Some(self.braces) {
            self.text = None;
            self.spaced = true;
            return;
        }
        self.push(Kind::GroupClose, at);
    }

    /// A dollar sign bounds formulas, and means money where it has no partner and a digit follows.
    fn dollar(&mut self, at: usize) {
        if self.dollars % 2 == 1 && self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            self.dollars = 0;
            self.push(Kind::Currency("$"), at);
        } else if !self.rest().starts_with('$') {
            // The last sign of `$$` counts.
            self.toggle(None);
        }
    }
}
