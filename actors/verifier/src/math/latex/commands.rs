//! The commands of LaTeX, the words of plain text and the signs of Unicode that mean something in an answer.

use super::token::{Fence, Kind, Side};
use crate::math::{Constant, Function, Relation};

/// What a command is to the lexer.
#[derive(Clone, Copy)]
pub(super) enum Command {
    Token(Kind<'static>),
    /// White space only.
    Space,
    /// Nothing, and its argument stays: `\mathbf`.
    Transparent,
    /// Its argument is text: `\text`.
    Text,
    /// `\left`, `\right`, `\bigl`: it sizes the delimiter that follows.
    Size(Side),
    /// `\begin` and `\end`.
    Begin,
    End,
    /// `\mathbb`.
    Blackboard,
    /// Nothing, and its argument goes too: `\hspace{1cm}`, `\color{red}`, `\label{a}`.
    Drop,
}

/// The command `\name`; `None` if it is unknown.
pub(super) fn command(name: &str) -> Option<Command> {
    use Kind::*;
    let token = match name {
        "frac" | "dfrac" | "tfrac" | "cfrac" | "nicefrac" | "sfrac" | "fraction" => Frac,
        "binom" | "dbinom" | "tbinom" => Binom,
        "sqrt" | "surd" => Sqrt,
        "cbrt" => Cbrt,
        "overline" | "bar" | "dot" => Overline,
        "boxed" | "fbox" => Boxed,
        "over" => Over,
        "choose" => Choose,
        "times" | "cdot" | "ast" | "star" | "bullet" => Times,
        "div" | "slash" => Divide,
        "bmod" | "mod" | "pmod" | "pod" => Modulo,
        "pm" => PlusMinus,
        "mp" => MinusPlus,
        "setminus" | "smallsetminus" | "backslash" => SetMinus,
        "cup" | "bigcup" => Union,
        "cap" | "bigcap" => Intersection,
        "colon" => Colon,
        "prime" => Prime,
        "circ" | "degree" | "textdegree" => Degree,
        "emptyset" | "varnothing" | "empty" | "O" => EmptySet,
        "infty" | "infinity" | "inf" => Constant(self::Constant::Infinity),
        "pi" | "uppi" => Constant(self::Constant::Pi),
        "imath" => Constant(self::Constant::I),
        "ldots" | "dots" | "cdots" | "dotsc" | "dotsb" | "vdots" | "ddots" | "textellipsis" => Dots,
        "implies" | "Rightarrow" | "Longrightarrow" | "therefore" | "iff" | "Leftrightarrow" | "longrightarrow"
        | "Longleftrightarrow" => Implies,
        "to" | "rightarrow" | "mapsto" => Arrow,
        "mid" => Mid,
        "vert" => Bar(Side::Either),
        "lvert" => Bar(Side::Left),
        "rvert" => Bar(Side::Right),
        "Vert" => DoubleBar(Side::Either),
        "lVert" => DoubleBar(Side::Left),
        "rVert" => DoubleBar(Side::Right),
        "lbrace" => Open(Fence::Curly),
        "rbrace" => Close(Fence::Curly),
        "lbrack" => Open(Fence::Square),
        "rbrack" => Close(Fence::Square),
        "lparen" => Open(Fence::Round),
        "rparen" => Close(Fence::Round),
        "langle" => Open(Fence::Angle),
        "rangle" => Close(Fence::Angle),
        "lfloor" => Open(Fence::Floor),
        "rfloor" => Close(Fence::Floor),
        "lceil" => Open(Fence::Ceil),
        "rceil" => Close(Fence::Ceil),
        "quad" | "qquad" => Quad,
        "land" | "wedge" | "lor" | "vee" => And,
        "newline" | "cr" => NewLine,
        "percent" => Percent,
        "euro" | "texteuro" => Currency("€"),
        "pounds" | "textsterling" => Currency("£"),
        "sum" => Big("sum"),
        "prod" => Big("prod"),
        "int" => Big("int"),
        "iint" => Big("iint"),
        "oint" => Big("oint"),
        "lim" => Big("lim"),
        "eq" => Relation(self::Relation::Equal),
        "ne" | "neq" => Relation(self::Relation::NotEqual),
        "lt" => Relation(self::Relation::Less),
        "le" | "leq" | "leqslant" | "leqq" => Relation(self::Relation::LessEqual),
        "gt" => Relation(self::Relation::Greater),
        "ge" | "geq" | "geqslant" | "geqq" => Relation(self::Relation::GreaterEqual),
        "approx" | "sim" | "simeq" | "approxeq" | "thickapprox" | "doteq" => Relation(self::Relation::Approximately),
        "equiv" | "cong" => Relation(self::Relation::Congruent),
        "in" | "isin" => Relation(self::Relation::In),
        "notin" => Relation(self::Relation::NotIn),
        "subset" | "subseteq" => Relation(self::Relation::Subset),
        _ => return structural(name).or_else(|| named(name)),
    };
    Some(Command::Token(token))
}

/// Commands that shape the text and mean nothing by themselves.
fn structural(name: &str) -> Option<Command> {
    Some(match name {
        "left" | "bigl" | "Bigl" | "biggl" | "Biggl" | "mleft" => Command::Size(Side::Left),
        "right" | "bigr" | "Bigr" | "biggr" | "Biggr" | "mright" => Command::Size(Side::Right),
        "middle" | "big" | "Big" | "bigg" | "Bigg" | "bigm" | "Bigm" => Command::Size(Side::Either),
        "text" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "textnormal" | "textup" | "textsc" | "mbox"
        | "hbox" | "mathrm" | "mathsf" | "mathtt" | "operatorname" | "emph" | "mathop" => Command::Text,
        "mathbf" | "mathit" | "boldsymbol" | "bm" | "mathcal" | "mathfrak" | "mathscr" | "mathnormal" | "vec"
        | "hat" | "widehat" | "tilde" | "widetilde" | "overrightarrow" | "underline" | "framebox" | "rm" | "bf"
        | "it" | "bold" | "mathstrut" | "ensuremath" | "overbrace" | "underbrace" | "cancel" | "displaystyle"
        | "textstyle" | "scriptstyle" | "limits" | "nolimits" | "strut" | "mathord" | "mathbin" | "mathrel"
        | "null" | "smash" | "angle" | "triangle" | "Large" | "large" | "huge" | "Huge" | "small" | "operatorname*"
        | "nobreak" | "mathopen" | "mathclose" | "mathpunct" | "centering" => Command::Transparent,
        "thinspace" | "medspace" | "thickspace" | "negthinspace" | "space" | "enspace" | "nobreakspace" | "hfill"
        | "linebreak" | "relax" | "hline" | "noindent" | "displaylimits" | "nonumber" | "notag" => Command::Space,
        "hspace" | "vspace" | "color" | "textcolor" | "label" | "tag" | "phantom" | "hphantom" | "vphantom" => {
            Command::Drop
        }
        "begin" => Command::Begin,
        "end" => Command::End,
        "mathbb" | "Bbb" => Command::Blackboard,
        _ => return None,
    })
}

/// Functions and Greek letters.
fn named(name: &str) -> Option<Command> {
    if let Some(function) = function(name) {
        return Some(Command::Token(Kind::Function(function)));
    }
    let kind = match name {
        "lg" => Kind::LogTen,
        "Re" => Kind::Function(Function::Re),
        "Im" => Kind::Function(Function::Im),
        "arg" => Kind::Function(Function::Arg),
        "det" => Kind::Function(Function::Det),
        "R" | "reals" => Kind::NumberSet('R'),
        "N" => Kind::NumberSet('N'),
        "Z" => Kind::NumberSet('Z'),
        "Q" => Kind::NumberSet('Q'),
        "C" => Kind::NumberSet('C'),
        _ => Kind::Name(greek(name)?),
    };
    Some(Command::Token(kind))
}

/// A function by a name that is one both as a command and as a word.
pub(super) fn function(name: &str) -> Option<Function> {
    use Function::*;
    Some(match name {
        "sin" => Sin,
        "cos" => Cos,
        "tan" | "tg" => Tan,
        "cot" | "ctg" | "cotan" => Cot,
        "sec" => Sec,
        "csc" | "cosec" => Csc,
        "arcsin" | "asin" => Arcsin,
        "arccos" | "acos" => Arccos,
        "arctan" | "atan" | "arctg" => Arctan,
        "arccot" | "acot" | "arcctg" => Arccot,
        "sinh" | "sh" => Sinh,
        "cosh" | "ch" => Cosh,
        "tanh" | "th" => Tanh,
        "coth" | "cth" => Coth,
        "arcsinh" | "arsinh" | "asinh" => Arsinh,
        "arccosh" | "arcosh" | "acosh" => Arcosh,
        "arctanh" | "artanh" | "atanh" => Artanh,
        "exp" => Exp,
        "ln" => Ln,
        "log" => Log,
        "abs" => Abs,
        "floor" => Floor,
        "ceil" => Ceil,
        "min" => Min,
        "max" => Max,
        "gcd" => Gcd,
        "lcm" => Lcm,
        "sgn" | "sign" => Sign,
        _ => return None,
    })
}

/// The one name of a Greek letter; variants of shape are the same letter.
pub(super) fn greek(name: &str) -> Option<&'static str> {
    Some(match name {
        "alpha" => "alpha",
        "beta" => "beta",
        "gamma" => "gamma",
        "delta" => "delta",
        "epsilon" | "varepsilon" => "epsilon",
        "zeta" => "zeta",
        "eta" => "eta",
        "theta" | "vartheta" => "theta",
        "iota" => "iota",
        "kappa" | "varkappa" => "kappa",
        "lambda" => "lambda",
        "mu" => "mu",
        "nu" => "nu",
        "xi" => "xi",
        "rho" | "varrho" => "rho",
        "sigma" | "varsigma" => "sigma",
        "tau" => "tau",
        "upsilon" => "upsilon",
        "phi" | "varphi" => "phi",
        "chi" => "chi",
        "psi" => "psi",
        "omega" => "omega",
        "Gamma" => "Gamma",
        "Delta" => "Delta",
        "Theta" => "Theta",
        "Lambda" => "Lambda",
        "Xi" => "Xi",
        "Pi" => "Pi",
        "Sigma" => "Sigma",
        "Upsilon" => "Upsilon",
        "Phi" => "Phi",
        "Psi" => "Psi",
        "Omega" => "Omega",
        "ell" => "l",
        "hbar" => "hbar",
        "partial" => "partial",
        "nabla" => "nabla",
        "aleph" => "aleph",
        _ => return None,
    })
}

/// A sign outside ASCII that is one token.
pub(super) fn sign(c: char) -> Option<Kind<'static>> {
    use Kind::*;
    Some(match c {
        'π' | '𝜋' | 'Π' => Constant(self::Constant::Pi),
        '∞' => Constant(self::Constant::Infinity),
        'ⅈ' => Constant(self::Constant::I),
        'ⅇ' => Constant(self::Constant::E),
        '√' => Sqrt,
        '∛' => Cbrt,
        '×' | '·' | '⋅' | '∗' | '•' | '∙' | '✕' | '⨯' | '＊' => Times,
        '÷' | '∕' | '⁄' | '／' => Divide,
        '−' | '–' | '—' | '‐' | '‑' | '－' | '﹣' => Minus,
        '＋' => Plus,
        '±' => PlusMinus,
        '∓' => MinusPlus,
        '∪' | '⋃' => Union,
        '∩' | '⋂' => Intersection,
        '∖' => SetMinus,
        '∅' | 'Ø' => EmptySet,
        '°' | 'º' | '˚' => Degree,
        '′' | '’' | '‘' | '＇' => Prime,
        '≠' => Relation(self::Relation::NotEqual),
        '＝' => Relation(self::Relation::Equal),
        '＜' => Relation(self::Relation::Less),
        '＞' => Relation(self::Relation::Greater),
        '≤' | '⩽' | '≦' => Relation(self::Relation::LessEqual),
        '≥' | '⩾' | '≧' => Relation(self::Relation::GreaterEqual),
        '≈' | '∼' | '≃' | '≅' => Relation(self::Relation::Approximately),
        '≡' => Relation(self::Relation::Congruent),
        '∈' => Relation(self::Relation::In),
        '∉' => Relation(self::Relation::NotIn),
        '⊂' | '⊆' => Relation(self::Relation::Subset),
        '⇒' | '⟹' | '⇔' | '∴' => Implies,
        '→' | '⟶' | '↦' => Arrow,
        '…' | '⋯' => Dots,
        '∧' | '∨' => And,
        '∣' => Mid,
        '｜' => Bar(Side::Either),
        '‖' | '∥' => DoubleBar(Side::Either),
        '⌊' => Open(Fence::Floor),
        '⌋' => Close(Fence::Floor),
        '⌈' => Open(Fence::Ceil),
        '⌉' => Close(Fence::Ceil),
        '⟨' | '〈' => Open(Fence::Angle),
        '⟩' | '〉' => Close(Fence::Angle),
        '（' => Open(Fence::Round),
        '）' => Close(Fence::Round),
        '［' | '【' => Open(Fence::Square),
        '］' | '】' => Close(Fence::Square),
        '，' | '、' => Comma,
        '；' => Semicolon,
        '：' | '∶' => Colon,
        '。' | '．' => Dot,
        '％' => Percent,
        '！' => Bang,
        '∑' => Big("sum"),
        '∏' => Big("prod"),
        '∫' => Big("int"),
        'ℝ' => NumberSet('R'),
        'ℚ' => NumberSet('Q'),
        'ℤ' => NumberSet('Z'),
        'ℕ' => NumberSet('N'),
        'ℂ' => NumberSet('C'),
        'Δ' | '∆' => Name("Delta"),
        'Γ' => Name("Gamma"),
        'Θ' => Name("Theta"),
        'Λ' => Name("Lambda"),
        'Σ' => Name("Sigma"),
        'Φ' => Name("Phi"),
        'Ψ' => Name("Psi"),
        'Ω' => Name("Omega"),
        'α' => Name("alpha"),
        'β' => Name("beta"),
        'γ' => Name("gamma"),
        'δ' => Name("delta"),
        'ε' | 'ϵ' => Name("epsilon"),
        'ζ' => Name("zeta"),
        'η' => Name("eta"),
        'θ' | 'ϑ' => Name("theta"),
        'κ' => Name("kappa"),
        'λ' => Name("lambda"),
        'μ' | 'µ' => Name("mu"),
        'ν' => Name("nu"),
        'ξ' => Name("xi"),
        'ρ' => Name("rho"),
        'σ' | 'ς' => Name("sigma"),
        'τ' => Name("tau"),
        'φ' | 'ϕ' => Name("phi"),
        'χ' => Name("chi"),
        'ψ' => Name("psi"),
        'ω' => Name("omega"),
        '€' => Currency("€"),
        '£' => Currency("£"),
        '¥' | '￥' => Currency("¥"),
        '₹' => Currency("₹"),
        '₽' => Currency("₽"),
        '₩' => Currency("₩"),
        '₪' => Currency("₪"),
        '₫' => Currency("₫"),
        '฿' => Currency("฿"),
        '¢' => Currency("¢"),
        _ => return None,
    })
}

/// A raised or lowered digit or sign: what it stands for, and whether it is raised.
pub(super) fn script(c: char) -> Option<(char, bool)> {
    const UP: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣⁱ";
    const DOWN: &str = "₀₁₂₃₄₅₆₇₈₉";
    let plain = |signs: &str, plains: &str| signs.chars().position(|s| s == c).and_then(|at| plains.chars().nth(at));
    plain(UP, "0123456789+-nxi").map(|p| (p, true)).or_else(|| plain(DOWN, "0123456789").map(|p| (p, false)))
}

/// A vulgar fraction: numerator and denominator.
pub(super) fn vulgar(c: char) -> Option<(&'static str, &'static str)> {
    Some(match c {
        '½' => ("1", "2"),
        '⅓' => ("1", "3"),
        '⅔' => ("2", "3"),
        '¼' => ("1", "4"),
        '¾' => ("3", "4"),
        '⅕' => ("1", "5"),
        '⅖' => ("2", "5"),
        '⅗' => ("3", "5"),
        '⅘' => ("4", "5"),
        '⅙' => ("1", "6"),
        '⅚' => ("5", "6"),
        '⅐' => ("1", "7"),
        '⅛' => ("1", "8"),
        '⅜' => ("3", "8"),
        '⅝' => ("5", "8"),
        '⅞' => ("7", "8"),
        '⅑' => ("1", "9"),
        '⅒' => ("1", "10"),
        _ => return None,
    })
}
