//! Claims: equations, inequalities, and names that are given values.
//!
//! `x = 5` is 5 where the other side names nothing, and `x = 1, y = 2` is (1, 2). Two claims are the same if they have the
//! same solutions, as far as that shows: equal values for equal names, equations that differ by a constant factor, inequalities
//! that differ by a positive one, or one unknown in the same set.

use super::{Comparison, Rule, Verdict, collections, is_claim, plain, tree};
use crate::math::{Expr, Function, OverBudget, Relation};

/// What an object says.
#[derive(Debug)]
enum Claim {
    /// It is a value and says nothing of names.
    Value(Expr),
    /// A name has a value; a tuple of names may have a tuple of values.
    Given(Expr, Expr),
    /// Several names have values.
    Record(Vec<(Expr, Expr)>),
    /// Relations that hold at once, each with two sides, none of them a value for a name.
    Relations(Vec<Link>),
    /// Several claims that are no record.
    Several(Vec<Expr>),
}

#[derive(Clone, Debug)]
struct Link {
    left: Expr,
    relation: Relation,
    right: Expr,
}

impl Comparison<'_> {
    /// At least one of the two says something of names.
    pub(super) fn claims(&mut self, a: &Expr, b: &Expr) -> Verdict {
        if says_where(a) || says_where(b) {
            let found = self.regions(a, b)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        if let (Some(x), Some(y)) = (congruence(a), congruence(b)) {
            return self.congruences(x, y);
        }
        let (left, right) = (self.claim(a)?, self.claim(b)?);
        match (&left, &right) {
            (Claim::Value(x), Claim::Value(y)) => {
                if x == a && y == b {
                    self.same_parts(a, b)
                } else {
                    self.same(x, y)
                }
            }
            (Claim::Given(_, x), Claim::Value(y)) | (Claim::Value(y), Claim::Given(_, x)) => self.same(x, y),
            (Claim::Given(m, x), Claim::Given(n, y)) => self.given(m, x, n, y),
            (Claim::Record(items), Claim::Value(value)) | (Claim::Value(value), Claim::Record(items)) => {
                self.record_against(items, value)
            }
            (Claim::Record(x), Claim::Record(y)) => self.records(x, y),
            (Claim::Record(items), Claim::Given(name, values @ Expr::List(_)))
            | (Claim::Given(name, values @ Expr::List(_)), Claim::Record(items))
                if numbered(items).is_some_and(|base| matches!(name, Expr::Symbol(name) if *name == base)) =>
            {
                self.record_against(items, values)
            }
            (Claim::Record(items), Claim::Given(names, values))
            | (Claim::Given(names, values), Claim::Record(items)) => match paired(names, values) {
                Some(other) => self.records(items, &other),
                None => Ok(None),
            },
            (Claim::Several(items), Claim::Value(value)) | (Claim::Value(value), Claim::Several(items))
                if let Some(own) = without_exceptions(items) =>
            {
                self.same(own, value)
            }
            (Claim::Several(x), Claim::Several(y)) => {
                let same = self.covers(x, y)? && self.covers(y, x)?;
                Ok(same.then_some(Rule::Set))
            }
            _ => match (links(&left), links(&right)) {
                (Some(x), Some(y)) => self.systems(&x, &y),
                _ => Ok(None),
            },
        }
    }

    /// The same names, modulus and remainder.
    fn congruences(&mut self, (a, x, m): Congruence<'_>, (b, y, n): Congruence<'_>) -> Verdict {
        let rest = |value: &Expr| Expr::Apply(Function::Mod, vec![value.clone(), m.clone()]);
        let same = self.is_same(a, b)? && self.is_same(m, n)? && self.is_same(&rest(x), &rest(y))?;
        Ok(same.then_some(Rule::Equation))
    }

    fn claim(&mut self, expr: &Expr) -> Result<Claim, OverBudget> {
        self.budget.spend(1)?;
        Ok(match expr {
            Expr::Relation(first, rest) => self.chain_claim(expr, first, rest)?,
            Expr::List(items) | Expr::Set(items) if is_claim(expr) => self.list_claim(items)?,
            other => Claim::Value(other.clone()),
        })
    }

    fn chain_claim(&mut self, whole: &Expr, first: &Expr, rest: &[(Relation, Expr)]) -> Result<Claim, OverBudget> {
        let Some((relation, last)) = rest.last() else { return Ok(Claim::Value(first.clone())) };
        if let ([(Relation::In, set)], true) = (rest, tree::is_name(first)) {
            return Ok(Claim::Given(first.clone(), set.clone()));
        }
        if rest.iter().all(|(relation, _)| *relation == Relation::Equal) {
            if tree::is_name(first) {
                return Ok(Claim::Given(first.clone(), last.clone()));
            }
            // `5 = x`
            if let (Expr::Symbol(_), 1) = (last, rest.len())
                && tree::names_in(first).is_empty()
            {
                return Ok(Claim::Given(last.clone(), first.clone()));
            }
            // `2 + 3 = 5` is 5, and so is the end of a longer chain of which no part but the last is the answer.
            let is_sum = tree::names_in(whole).is_empty() && self.is_same(first, last)?;
            if is_sum || rest.len() > 1 {
                return Ok(Claim::Value(last.clone()));
            }
        }
        if *relation == Relation::Congruent && rest.len() == 1 {
            return Ok(Claim::Value(whole.clone()));
        }
        Ok(Claim::Relations(links_of(first, rest)))
    }

    /// Values for different names are a record. Values for one name are a set, and so is `x = 1, 2`.
    fn list_claim(&mut self, items: &[Expr]) -> Result<Claim, OverBudget> {
        let items = collections::flattened(items);
        let mut given = Vec::new();
        let mut others = 0;
        for item in &items {
            match self.claim(&plain(item))? {
                Claim::Given(name, value) => given.push((name, value)),
                Claim::Value(value) if !given.is_empty() => {
                    others += 1;
                    let (name, _): &(Expr, Expr) = &given[0];
                    given.push((name.clone(), value));
                }
                _ => return Ok(Claim::Several(items)),
            }
        }
        let names = distinct(&given);
        if names == 1 {
            let values = given.iter().map(|(_, value)| value.clone()).collect();
            return Ok(Claim::Given(given.swap_remove(0).0, Expr::List(values)));
        }
        if others > 0 {
            return Ok(Claim::Several(items));
        }
        if names == given.len() {
            return Ok(Claim::Record(given));
        }
        // p = 5, q = 2, p = 7, q = 2: two records.
        if given.len() % names == 0 && given.chunks(names).all(|part| distinct(part) == names) {
            let tuple = |part: &[(Expr, Expr)]| as_tuple(part.iter().map(|(_, value)| value.clone()).collect());
            let names_of_one = given[..names].iter().map(|(name, _)| name.clone()).collect();
            return Ok(Claim::Given(as_tuple(names_of_one), Expr::List(given.chunks(names).map(tuple).collect())));
        }
        Ok(Claim::Several(items))
    }

    /// The same name and value, or the same equation otherwise: `y = x` and `x = y`.
    fn given(&mut self, m: &Expr, x: &Expr, n: &Expr, y: &Expr) -> Verdict {
        if self.is_same(m, n)? {
            return Ok(self.same(x, y)?.map(|_| Rule::Assignment));
        }
        if let Some((x, y)) = same_function(m, x, n, y) {
            return Ok(self.same(&x, &y)?.map(|_| Rule::Assignment));
        }
        if let (Some(a), Some(b)) = (paired(m, x), paired(n, y)) {
            return self.records(&a, &b);
        }
        let is_scalar = |expr: &Expr| !super::is_collection(expr) && !super::is_claim(expr);
        if !is_scalar(x) || !is_scalar(y) {
            return Ok(None);
        }
        let equal = self.proportional(&tree::minus(m, x), &tree::minus(n, y), false)?;
        Ok(equal.then_some(Rule::Equation))
    }

    fn records(&mut self, a: &[(Expr, Expr)], b: &[(Expr, Expr)]) -> Verdict {
        if a.len() != b.len() {
            return Ok(None);
        }
        for (name, value) in a {
            let mut same = false;
            for (other, counterpart) in b {
                if self.is_same(name, other)? {
                    same = self.is_same(value, counterpart)?;
                    break;
                }
            }
            if !same {
                return Ok(None);
            }
        }
        Ok(Some(Rule::Assignment))
    }

    /// `x = 1, y = 2` as a tuple or list in the same order; x₁ and x₂ are solutions, which have none.
    fn record_against(&mut self, items: &[(Expr, Expr)], value: &Expr) -> Verdict {
        let values: Vec<Expr> = items.iter().map(|(_, value)| value.clone()).collect();
        let found = match value {
            Expr::Set(other) | Expr::List(other) => {
                if numbered(items).is_some() {
                    return self.same(&Expr::List(values), value);
                }
                self.in_order(&values, &collections::flattened(other))?
            }
            Expr::Bracketed(..) => self.same(&as_tuple(values), value)?,
            _ => None,
        };
        Ok(found.map(|_| Rule::Assignment))
    }

    /// Relations that hold at once, in any order.
    fn systems(&mut self, a: &[Link], b: &[Link]) -> Verdict {
        if a.len() != b.len() {
            return Ok(None);
        }
        let mut free: Vec<&Link> = b.iter().collect();
        let mut rule = Rule::Equation;
        for link in a {
            let mut place = None;
            for (index, other) in free.iter().enumerate() {
                if self.same_link(link, other)? {
                    place = Some(index);
                    break;
                }
            }
            let Some(place) = place else { return Ok(None) };
            free.remove(place);
            if link.relation != Relation::Equal {
                rule = Rule::Inequality;
            }
        }
        Ok(Some(rule))
    }

    fn same_link(&mut self, a: &Link, b: &Link) -> Result<bool, OverBudget> {
        if a.relation != b.relation {
            return Ok(false);
        }
        if self.is_same(&a.left, &b.left)? && self.is_same(&a.right, &b.right)? {
            return Ok(true);
        }
        let (x, y) = (tree::minus(&a.left, &a.right), tree::minus(&b.left, &b.right));
        match a.relation {
            Relation::Equal | Relation::NotEqual => self.proportional(&x, &y, false),
            Relation::Less | Relation::LessEqual => self.proportional(&x, &y, true),
            _ => Ok(false),
        }
    }
}

/// Whether it says where an unknown lies, other than by equations.
fn says_where(expr: &Expr) -> bool {
    match expr {
        Expr::Relation(_, rest) => rest.iter().any(|(relation, _)| *relation != Relation::Equal),
        Expr::List(items) | Expr::Set(items) => items.iter().any(says_where),
        Expr::Builder(..) => true,
        _ => false,
    }
}

/// `x + 1, x \ne 1`: the value, if all the rest says where it is not defined.
fn without_exceptions(items: &[Expr]) -> Option<&Expr> {
    let (value, rest) = items.split_first()?;
    let names = tree::names_in(value);
    let excepts = |item: &Expr| match item {
        Expr::Relation(name, chain) => match (&**name, chain.as_slice()) {
            (Expr::Symbol(name), [(Relation::NotEqual, _)]) => names.contains(&name.as_str()),
            _ => false,
        },
        _ => false,
    };
    (!rest.is_empty() && !is_claim(value) && rest.iter().all(excepts)).then_some(value)
}

/// What is congruent, to what, and by which modulus.
type Congruence<'e> = (&'e Expr, &'e Expr, &'e Expr);

fn congruence(expr: &Expr) -> Option<Congruence<'_>> {
    let Expr::Relation(first, rest) = expr else { return None };
    match rest.as_slice() {
        [(Relation::Congruent, Expr::Apply(Function::Mod, items))] => match items.as_slice() {
            [value, modulus] => Some((first, value, modulus)),
            _ => None,
        },
        _ => None,
    }
}

/// `f(t) = t^2` and `f(x) = x^2` are one function, and so is `y = x^2`: both right sides with the same argument.
fn same_function(m: &Expr, x: &Expr, n: &Expr, y: &Expr) -> Option<(Expr, Expr)> {
    match (m, n) {
        (Expr::Call(f, a), Expr::Call(g, b)) if f == g => match (a.as_slice(), b.as_slice()) {
            ([a @ Expr::Symbol(_)], [Expr::Symbol(b)]) => Some((x.clone(), tree::substituted(y, b, a))),
            _ => None,
        },
        (Expr::Call(_, arguments), Expr::Symbol(value)) | (Expr::Symbol(value), Expr::Call(_, arguments))
            if value == "y" && matches!(arguments.as_slice(), [Expr::Symbol(name)] if name != "y") =>
        {
            Some((x.clone(), y.clone()))
        }
        _ => None,
    }
}

/// `(x, y) = (1, 2)` as a record.
fn paired(names: &Expr, values: &Expr) -> Option<Vec<(Expr, Expr)>> {
    match (names, values) {
        (Expr::Bracketed(_, names, _), Expr::Bracketed(_, values, _)) if names.len() == values.len() => {
            Some(names.iter().cloned().zip(values.iter().cloned()).collect())
        }
        _ => None,
    }
}

fn as_tuple(items: Vec<Expr>) -> Expr {
    Expr::Bracketed(crate::math::Bracket::Round, items, crate::math::Bracket::Round)
}

fn distinct(given: &[(Expr, Expr)]) -> usize {
    let mut names: Vec<&Expr> = Vec::new();
    for (name, _) in given {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.len()
}

/// x_1, x_2, …: the letter, if it is one.
fn numbered(items: &[(Expr, Expr)]) -> Option<&str> {
    let (Expr::Symbol(first), _) = items.first()? else { return None };
    let (letter, _) = first.split_once('_')?;
    let same = |(name, _): &(Expr, Expr)| matches!(name, Expr::Symbol(name) if name.split_once('_').is_some_and(|(base, _)| base == letter));
    items.iter().all(same).then_some(letter)
}

fn links(claim: &Claim) -> Option<Vec<Link>> {
    match claim {
        Claim::Relations(links) => Some(links.clone()),
        Claim::Given(name, value) if !super::is_collection(value) => {
            Some(vec![Link { left: name.clone(), relation: Relation::Equal, right: value.clone() }])
        }
        _ => None,
    }
}

/// The links of a chain, with "greater" turned into "less".
fn links_of(first: &Expr, rest: &[(Relation, Expr)]) -> Vec<Link> {
    let mut links = Vec::with_capacity(rest.len());
    let mut left = first;
    for (relation, right) in rest {
        let link = |left: &Expr, relation, right: &Expr| Link { left: left.clone(), relation, right: right.clone() };
        links.push(match relation {
            Relation::Greater => link(right, Relation::Less, left),
            Relation::GreaterEqual => link(right, Relation::LessEqual, left),
            relation => link(left, *relation, right),
        });
        left = right;
    }
    links
}
