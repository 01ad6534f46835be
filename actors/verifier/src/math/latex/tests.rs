use proptest::prelude::*;

use super::*;
use crate::math::Budget;

fn shown(text: &str) -> String {
    match parse(text, &mut Budget::default()) {
        Ok(expr) => expr.to_string(),
        Err(error) => format!("!{error}"),
    }
}

#[track_caller]
fn all(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(text, expected)| shown(text) != *expected)
        .map(|(text, expected)| format!("{text}\n   expected {expected}\n   got      {}", shown(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers_are_read_as_they_are_written() {
    all(&[
        ("42", "42"),
        ("-3.50", "-3.50"),
        (".5", "0.5"),
        ("007", "7"),
        ("1,234,567.5", "1234567.5"),
        (r"1\,234\,567", "1234567"),
        ("1{,}234", "1234"),
        (r"12,\! 345", "12345"),
        ("12 345", "12345"),
        ("1.234.567", "1234567"),
        ("3,75", "3.75"),
        ("3{,}75", "3.75"),
        ("2.5e-3", "0.0025"),
        (r"2.5 \times 10^{-3}", "2.5·10^(-3)"),
        ("4 x 10^7", "4·10^7"),
        (r"0.\overline{36}", "(4/11)"),
        (r"0.2\overline{3}", "(7/30)"),
        (r"0.66\ldots", "0.66"),
        (r"4\frac{2}{5}", "4 2/5"),
        ("4 2/5", "4 2/5"),
        ("4⅖", "4 2/5"),
        (r"4\frac{7}{5}", "4·(7/5)"),
        (r"4(\frac{2}{5})", "4·(2/5)"),
        ("132_7", "132_7"),
        (r"\frac{1}{e}", "1/e"),
    ]);
}

#[test]
fn commas_separate_thousands_or_items() {
    all(&[
        ("12, 345", "12, 345"),
        ("(120,340)", "(120, 340)"),
        ("(1,000, 2,000)", "(1000, 2000)"),
        ("(4,000)", "4000"),
        ("1,2,3", "1, 2, 3"),
        ("$7,8$", "7, 8"),
        ("1,23,456", "1, 23, 456"),
        ("100,200", "100200"),
    ]);
}

#[test]
fn fractions_and_roots_need_no_braces() {
    all(&[
        (r"\frac34", "3/4"),
        (r"\frac3{45}", "3/45"),
        (r"\frac{3}4", "3/4"),
        (r"\dfrac {3} {4}", "3/4"),
        (r"\tfrac x2", "x/2"),
        (r"\frac\pi6", "π/6"),
        (r"-\frac{x-1}{2}", "-(x - 1)/2"),
        (r"{7 \over 9}", "7/9"),
        (r"\sqrt5", "sqrt(5)"),
        (r"\sqrt{5}x", "sqrt(5)·x"),
        (r"\sqrt[4]{x}^3", "root(x; 4)^3"),
        ("sqrt(x+1)", "sqrt(x + 1)"),
        ("√7", "sqrt(7)"),
        (r"\binom72", "binomial(7; 2)"),
        (r"{n \choose 2}", "binomial(n; 2)"),
    ]);
}

#[test]
fn operators_bind_as_they_are_meant() {
    all(&[
        ("2x^2-3xy+4", "2·x^2 - 3·x·y + 4"),
        ("-x^2", "-x^2"),
        ("2^-3", "2^(-3)"),
        ("2^3^2", "2^(3^2)"),
        ("x**3", "x^3"),
        ("(x+1)(x-1)", "(x + 1)·(x - 1)"),
        ("1/3x", "(1/3)·x"),
        ("x/2y", "(x/2)·y"),
        ("a/bc", "a/(b·c)"),
        (r"6 \div 2", "6/2"),
        ("n!k", "n!·k"),
        (r"(2n)!/n!", "(2·n)!/n!"),
        ("2[x+1]", "2·[x + 1]"),
        (r"2 \pm \sqrt3", "2 ± sqrt(3)"),
        (r"\pm 5", "±5"),
        (r"1 \mp x", "1 ± (-x)"),
        (r"17 \bmod 5", "17 mod 5"),
        ("x²y³", "x^2·y^3"),
    ]);
}

#[test]
fn functions_take_what_follows() {
    all(&[
        (r"\sin 3x + 1", "sin(3·x) + 1"),
        (r"\sin^2 x", "sin(x)^2"),
        (r"\cos^{-1} x", "arccos(x)"),
        (r"\sin x \cos y", "sin(x)·cos(y)"),
        (r"\sin(x) y", "sin(x)·y"),
        (r"\ln(2)\sqrt3", "ln(2)·sqrt(3)"),
        (r"\log_3 81", "log_3(81)"),
        (r"\log_381", "log_3(81)"),
        (r"\lg x", "log_10(x)"),
        (r"\ln|x|", "ln(|x|)"),
        (r"\tan\frac{\pi}{8}", "tan(π/8)"),
        (r"\sin \pi/3", "sin(π/3)"),
        (r"\ln 2/3", "ln(2)/3"),
        ("sinx", "sin(x)"),
        (r"\max\{3, x\}", "max(3, x)"),
        (r"\operatorname{lcm}(4, 6)", "lcm(4, 6)"),
        (r"\lfloor 2.7 \rfloor", "⌊2.7⌋"),
        ("|x - 4| + 2|y|", "|x - 4| + 2·|y|"),
        (r"\left|\frac{a}{b}\right|", "|a/b|"),
        ("g(x) = 3x", "g(x) = 3·x"),
        ("f^{-1}(x)", "f^{-1}(x)"),
        ("f'(x)", "f'(x)"),
        ("P(t) = 5t", "P(t) = 5·t"),
        (r"\overline{z}", "conjugate(z)"),
        (r"\sum_{k=1}^{n} k^2", "sum_{k = 1}^{n} k^2"),
        (r"\lim_{x \to 0} \frac{\sin x}{x}", "lim_{x → 0} sin(x)/x"),
    ]);
}

#[test]
fn sets_intervals_and_tuples_keep_their_brackets() {
    all(&[
        ("(3, -4)", "(3, -4)"),
        ("[0, 1)", "[0, 1)"),
        ("]0, 1[", "(0, 1)"),
        ("[0, 1[", "[0, 1)"),
        (r"(-\infty, 2] \cup (5, \infty)", "(-∞, 2] ∪ (5, ∞)"),
        ("(1,2) U (3,4)", "(1, 2) ∪ (3, 4)"),
        (r"\{2, 3\}", "{2, 3}"),
        ("{2, 3}", "2, 3"),
        (r"\emptyset", "{}"),
        (r"\{\}", "{}"),
        (r"\{x \mid x > 2\}", "{x | x > 2}"),
        (r"\{ n^2 : n \in \mathbb{N} \}", "{n^2 | n ∈ ℕ}"),
        (r"\mathbb{R} \setminus \{0\}", "ℝ ∖ {0}"),
        (r"\mathbb{R} - \{0\}", "ℝ ∖ {0}"),
        (r"\langle 1, 2\rangle", "(1, 2)"),
        ("A(2, 5)", "A = (2, 5)"),
        ("(1;2;3)", "(1, 2, 3)"),
    ]);
}

#[test]
fn matrices_and_cases_are_read_by_rows() {
    all(&[
        (r"\begin{pmatrix} 1 & x \\ -2 & \frac12 \end{pmatrix}", "[1, x; -2, 1/2]"),
        (r"\left[\begin{array}{cc} 1 & 2 \\ 3 & 4 \\ \end{array}\right]", "[1, 2; 3, 4]"),
        (r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}", "det([1, 2; 3, 4])"),
        (r"\begin{pmatrix} 5 \\ 6 \end{pmatrix} + t\begin{pmatrix} 7 \\ 8 \end{pmatrix}", "[5; 6] + t·[7; 8]"),
        (r"\\begin{pmatrix}1\\\\2\\end{pmatrix}", "[1; 2]"),
        (r"\begin{cases} x & \text{if } x > 0 \\ 0 & x \le 0 \end{cases}", "cases(x if x > 0; 0 if x ≤ 0)"),
        (r"\begin{cases} x = 1 \\ y = 2 \end{cases}", "x = 1, y = 2"),
        (r"\begin{aligned} x &= 1 \\ y &= 2 \end{aligned}", "x = 1, y = 2"),
    ]);
}

#[test]
fn lists_relations_and_conclusions() {
    all(&[
        (r"x = 2 \text{ or } x = -3", "x = 2, x = -3"),
        ("x=2orx=3", "x = 2, x = 3"),
        ("4, 5, and 6", "4, 5, 6"),
        ("$4$ and $5$", "4, 5"),
        (r"a = 1, \quad b = 2", "a = 1, b = 2"),
        (r"a = 1 \quad b = 2", "a = 1, b = 2"),
        ("p=1,q=2;p=3,q=4", "(p = 1, q = 2), (p = 3, q = 4)"),
        (r"p=1,q=2 \text{ or } p=3,q=4", "(p = 1, q = 2), (p = 3, q = 4)"),
        (r"-1 \le x < 4", "-1 ≤ x < 4"),
        ("x >= 3", "x ≥ 3"),
        ("x != 3", "x ≠ 3"),
        (r"x \in [1, 2]", "x ∈ [1, 2]"),
        (r"x + 1 = 3 \implies x = 2", "x = 2"),
        ("= 5", "5"),
        (r"\approx 3.14", "3.14"),
        ("7:32", "7:32"),
        (r"k\pi, k \in \mathbb{Z}", "k∈ℤ·π"),
        (r"\boxed{1}, \boxed{2}", "1, 2"),
        ("(B) 5", "(B) 5"),
        (r"\textbf{(C)}\ 14", "(C) 14"),
        ("D. 8", "(D) 8"),
        (r"\text{(A)}", "A"),
    ]);
}

#[test]
fn units_and_words() {
    all(&[
        (r"15\text{ cm}^2", "15 \"cm^2\""),
        (r"3 \text{ m/s}", "3 \"m/s\""),
        ("12 miles", "12 \"miles\""),
        (r"\$7.25", "7.25 \"$\""),
        ("$7.25", "7.25 \"$\""),
        ("7€", "7 \"€\""),
        (r"45\%", "45%"),
        ("45 percent", "45%"),
        (r"30^\circ", "30°"),
        (r"30^{\circ}", "30°"),
        ("30 degrees", "30°"),
        (r"30^\circ 15'", "(30 + 15/60)°"),
        (r"20^\circ\text{C}", "20 \"°C\""),
        ("5th", "5 \"th\""),
        (r"2\sqrt3 + 1 \text{ inches}", "(2·sqrt(3) + 1) \"inches\""),
        (r"\text{north}", "\"north\""),
        ("No real solutions", "\"No real solutions\""),
        (r"\text{Tuesday}", "\"Tuesday\""),
        (r"\mathrm{e}", "e"),
        ("Answer: 5", "5"),
        ("approximately 5", "5"),
    ]);
}

#[test]
fn what_is_no_mathematics_is_words_or_an_error_with_its_place() {
    assert_eq!(shown("it is 5, not 6 + apples ="), "\"it is 5, not 6 + apples =\"");
    assert_eq!(shown("2 + * 3"), "!unexpected `*` at byte 4");
    assert_eq!(shown("(1, 2"), "!unexpected end at byte 5");
    assert_eq!(shown(""), "!unexpected end at byte 0");
}

#[test]
fn what_is_ambiguous_has_a_second_reading() {
    for (text, style, first, second) in [
        ("1/2x", Style::Formula, "(1/2)·x", "1/(2·x)"),
        ("1,5", Style::Formula, "1, 5", "1.5"),
        ("1,5", Style::Prose, "1.5", "1, 5"),
        ("5 m", Style::Formula, "5·m", "5 \"m\""),
    ] {
        let read = |alternative| read(text, style, alternative, &mut Budget::default()).unwrap();
        assert!(read(false).ambiguous);
        assert_eq!(read(false).expr.to_string(), first);
        assert_eq!(read(true).expr.to_string(), second);
    }
    assert!(!read("2x + 1", Style::Formula, false, &mut Budget::default()).unwrap().ambiguous);
}

#[test]
fn hostile_texts_are_over_budget_and_never_overflow_the_stack() {
    let deep = 4000 / 2;
    for text in [
        "{".repeat(4000),
        "(".repeat(4000),
        format!("{}1{}", "(".repeat(deep), ")".repeat(deep)),
        format!("{}1{}", "{".repeat(deep), "}".repeat(deep)),
        r"\frac{".repeat(600),
        r"\sqrt".repeat(800),
        r"\sin".repeat(900),
        "2^".repeat(1500) + "2",
        "-".repeat(4000) + "1",
        format!("1{}", "/2".repeat(1500)),
        format!("1{}", "!".repeat(3000)),
        format!("x{}", "'".repeat(3000)),
        format!("x{}", r"\setminus y".repeat(300)),
        format!("1{}", ":2".repeat(1000)),
        "|".repeat(4000),
        "[".repeat(4000),
        "9".repeat(LONGEST_TEXT + 1),
        r"\pm".repeat(1000),
        r"\begin{pmatrix}".repeat(200),
        "a_{".repeat(1000),
        r"\text{".repeat(600),
    ] {
        // A thread's default stack, in a debug build.
        let parsed = std::thread::spawn(move || parse(&text, &mut Budget::default())).join();
        assert!(parsed.is_ok());
    }
    assert_eq!(parse(&"(".repeat(100), &mut Budget::default()), Err(ParseError::Budget));
    assert_eq!(parse("1+2+3", &mut Budget::of(4)), Err(ParseError::Budget));
}

#[test]
fn four_thousand_digits_are_a_number() {
    assert_eq!(shown(&"7".repeat(4000)), "7".repeat(4000));
}

/// Pieces of which answers are made, and what breaks them.
const PIECES: &[&str] = &[
    "1",
    "23",
    ".5",
    "x",
    "y",
    "e",
    "i",
    "\\pi",
    "+",
    "-",
    "*",
    "/",
    "^",
    "_",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    ",",
    ";",
    ":",
    "!",
    "%",
    "'",
    "|",
    "=",
    "<",
    "\\le",
    "\\in",
    "\\cup",
    "\\setminus",
    "\\frac",
    "\\sqrt",
    "\\sin",
    "\\log_",
    "\\sum_",
    "\\text{",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\begin{cases}",
    "\\end{cases}",
    "&",
    "\\\\",
    "\\left",
    "\\right",
    "\\pm",
    "\\circ",
    "\\boxed{",
    " and ",
    " cm",
    "$",
    "\\$",
    "é",
    "²",
    "½",
    "π",
    "∞",
    "\\overline{",
    "\\binom",
    "\\over",
    "\\mathbb{R}",
    "\\quad",
    ".",
    "…",
    "\\",
    "word",
    "\u{0}",
    "°",
    "\\implies",
    "\\,",
    "\\!",
    "~",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        for style in [Style::Formula, Style::Prose] {
            let _ = read(&text, style, false, &mut Budget::default());
        }
    }

    #[test]
    fn any_heap_of_pieces_is_parsed_or_refused_within_its_budget(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80),
        alternative in any::<bool>(),
    ) {
        let text: String = pieces.concat();
        let mut budget = Budget::default();
        if let Ok(reading) = read(&text, Style::of(&text), alternative, &mut budget) {
            prop_assert!(within_depth(&reading.expr, DEEPEST));
            let _shown = reading.expr.to_string();
        }
        // Linear: some steps a byte, whatever the text.
        prop_assert!(Budget::default().left() - budget.left() <= 20 * (text.len() as u64 + 10));
    }

    #[test]
    fn what_is_printed_of_a_polynomial_means_the_same(
        terms in prop::collection::vec((1_u32..100, prop::sample::select(&["x", "y", "z"][..]), 1_u32..9), 1..6),
    ) {
        let text = terms.iter().map(|(a, x, n)| format!("{a}{x}^{n}")).collect::<Vec<_>>().join("+");
        let expr = parse(&text, &mut Budget::default()).unwrap();
        let printed = expr.to_string().replace('·', "*");
        prop_assert_eq!(parse(&printed, &mut Budget::default()).unwrap(), expr);
    }
}
