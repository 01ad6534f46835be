//! The form in which answers are compared: what the parser makes of LaTeX, and the comparison reads.
//!
//! It stays close to what was written: nothing is simplified, reordered or evaluated by the parser, so that `explain` can
//! show it and so that each rule of comparison is in one place.

use dashu::rational::RBig;

/// A mathematical object as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// An integer or decimal literal, exact.
    Number(Number),
    /// π, e, i, ∞.
    Constant(Constant),
    /// A variable or unknown name: `x`, `x_{1}`, `\alpha`; subscripts are part of the name, written `x_1`.
    Symbol(String),
    /// a + b + …; at least two.
    Sum(Vec<Expr>),
    /// a · b · …, explicit or by juxtaposition; at least two.
    Product(Vec<Expr>),
    /// −a.
    Negate(Box<Expr>),
    /// a / b, `\frac{a}{b}`, `a \div b`.
    Quotient(Box<Expr>, Box<Expr>),
    /// `3\frac{1}{2}`, `3 1/2`: a whole number and a proper fraction written side by side.
    Mixed(Box<Expr>, Box<Expr>),
    /// a ^ b.
    Power(Box<Expr>, Box<Expr>),
    /// The principal root: `Root(radicand, index)`, index 2 for a plain `\sqrt`.
    Root(Box<Expr>, Box<Expr>),
    /// A function applied to its arguments; `log_b(x)` is `[x, b]`.
    Apply(Function, Vec<Expr>),
    /// a!
    Factorial(Box<Expr>),
    /// `\binom{n}{k}`.
    Binomial(Box<Expr>, Box<Expr>),
    /// a ± b (`None` for a leading sign): two values. `\mp` is the same with the opposite order of signs.
    PlusMinus(Option<Box<Expr>>, Box<Expr>),
    /// a %.
    Percent(Box<Expr>),
    /// a °.
    Degrees(Box<Expr>),
    /// A value with a unit or currency: `5\text{ cm}`, `\$5`; the unit as written, trimmed.
    Unit(Box<Expr>, String),
    /// An expression in brackets that hold one item and group nothing: `(x)` is `x` and has no such node; `[x]` has.
    /// Two and more items: `(a, b)`, `[a, b)`, `(a, b, c)`, `\langle a, b\rangle`: a tuple or an interval.
    Bracketed(Bracket, Vec<Expr>, Bracket),
    /// `\{a, b, …\}`; `\{\}` and `\emptyset` are the empty one.
    Set(Vec<Expr>),
    /// a, b, c without brackets, also `a and b`, `a or b`, `a; b`.
    List(Vec<Expr>),
    /// `A \cup B \cup …`.
    Union(Vec<Expr>),
    /// `A \cap B \cap …`.
    Intersection(Vec<Expr>),
    /// `A \setminus B`.
    Difference(Box<Expr>, Box<Expr>),
    /// `\{x \mid …\}`, `\{x \in A : …\}`: what is left of the bar, and the conditions.
    Builder(Box<Expr>, Vec<Expr>),
    /// ℝ, ℚ, ℤ, ℕ, ℂ by their letter.
    NumberSet(char),
    /// `a < b <= c`, `x = 5`, `x \in A`: the first side, then each relation with its right side.
    Relation(Box<Expr>, Vec<(Relation, Expr)>),
    /// A matrix, row by row, or a determinant's or column vector's content; all rows have the same length.
    Matrix(Vec<Vec<Expr>>),
    /// Words: `\text{east}`, `Tuesday`; single spaces, otherwise as written.
    Text(String),
    /// `a : b`, `a : b : c`: a ratio, or a time of day; at least two.
    Ratio(Vec<Expr>),
    /// A function that has a name only: `f(x)`, `f'(2)`, `f^{-1}(x)`; the name as written, a subscript as in symbols.
    Call(String, Vec<Expr>),
    /// `\sum_{k=1}^{n} a`, `\int`, `\prod`, `\lim`: the operator, what stands below it, what stands above, what it applies to.
    Big(String, Option<Box<Expr>>, Option<Box<Expr>>, Box<Expr>),
    /// A numeral with its base, `204_5`. The number is the digits read as decimal, as they were written.
    Based(Number, u32),
    /// `\begin{cases}`: each value with its condition.
    Piecewise(Vec<(Expr, Expr)>),
    /// The letter of a choice and what it says: `(B) 5`. The letter alone is a symbol.
    Choice(char, Box<Expr>),
}

/// A literal number.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Its value.
    pub value: RBig,
    /// Digits behind the decimal point as written, trailing zeros included; `None` for an integer literal.
    pub decimals: Option<u32>,
    /// The bar of a repeating decimal was written: the value is exact although decimals are given.
    pub repeating: bool,
}

impl Number {
    /// Written without a decimal mark.
    pub fn is_whole(&self) -> bool {
        self.decimals.is_none()
    }
}

impl Expr {
    /// Calls `f` with each part that this node directly holds.
    pub fn for_each_part<'e>(&'e self, f: &mut impl FnMut(&'e Self)) {
        use Expr::*;
        match self {
            Number(_) | Constant(_) | Symbol(_) | NumberSet(_) | Text(_) | Based(..) => {}
            Sum(parts)
            | Product(parts)
            | Apply(_, parts)
            | Bracketed(_, parts, _)
            | Set(parts)
            | List(parts)
            | Union(parts)
            | Intersection(parts)
            | Ratio(parts)
            | Call(_, parts) => parts.iter().for_each(f),
            Negate(a) | Factorial(a) | Percent(a) | Degrees(a) | Unit(a, _) | Choice(_, a) | PlusMinus(None, a) => f(a),
            Quotient(a, b)
            | Mixed(a, b)
            | Power(a, b)
            | Root(a, b)
            | Binomial(a, b)
            | Difference(a, b)
            | PlusMinus(Some(a), b) => {
                f(a);
                f(b);
            }
            Builder(a, parts) => {
                f(a);
                parts.iter().for_each(f);
            }
            Relation(a, chain) => {
                f(a);
                chain.iter().for_each(|(_, side)| f(side));
            }
            Matrix(rows) => rows.iter().flatten().for_each(f),
            Big(_, below, above, body) => {
                below.iter().chain(above).for_each(|limit| f(limit));
                f(body);
            }
            Piecewise(cases) => cases.iter().for_each(|(value, condition)| {
                f(value);
                f(condition);
            }),
        }
    }
}

/// A named constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constant {
    /// 3.14159…
    Pi,
    /// Euler's number; a lone `e`, and `e` under an exponent.
    E,
    /// The imaginary unit.
    I,
    /// ∞.
    Infinity,
}

/// A named function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the function of its name")]
pub enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Arccot,
    Sinh,
    Cosh,
    Tanh,
    Coth,
    Arsinh,
    Arcosh,
    Artanh,
    Exp,
    /// Natural logarithm.
    Ln,
    /// `[x]`: `\log` without a base; `[x, b]`: to the base b; `\lg` is `[x, 10]`.
    Log,
    Abs,
    Floor,
    Ceil,
    Min,
    Max,
    Gcd,
    Lcm,
    Re,
    Im,
    Arg,
    Conjugate,
    Det,
    /// `[a, m]`: a mod m.
    Mod,
    Sign,
}

/// One end of a bracketed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    /// `(` or `)`, also `\langle` and `\rangle`: a tuple's, or the open end of an interval (as is a reversed square bracket).
    Round,
    /// `[` or `]`: the closed end of an interval.
    Square,
}

/// A relation between two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the relation of its name")]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `\approx`, `\sim`, `\simeq`.
    Approximately,
    /// `\equiv`.
    Congruent,
    In,
    NotIn,
    Subset,
    /// `\to`: in limits.
    Tends,
}
