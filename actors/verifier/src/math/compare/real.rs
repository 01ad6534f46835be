//! What floating point with error bounds must offer, and complex numbers over it.

use std::cmp::Ordering;

use dashu::rational::RBig;

use super::evaluate::{Failure, Outcome};

/// A real number that is known up to an error bound it carries with it.
pub(super) trait Real: Clone {
    /// What precision, where there is a choice.
    type Setting: Copy;
    /// Steps of an operation of arithmetic.
    const ARITHMETIC: u64;
    /// Steps of an elementary function.
    fn function_steps(setting: Self::Setting) -> u64;

    fn of(value: &RBig, setting: Self::Setting) -> Self;
    fn pi(setting: Self::Setting) -> Self;
    fn add(&self, other: &Self) -> Self;
    fn multiply(&self, other: &Self) -> Self;
    fn negate(&self) -> Self;
    /// By a number that is not zero; [`Failure::Unsure`] if it may be.
    fn divide(&self, other: &Self) -> Outcome<Self>;
    /// Of a number that is not negative, or is zero up to its error.
    fn square_root(&self) -> Outcome<Self>;
    fn exp(&self) -> Outcome<Self>;
    /// Of a positive number.
    fn ln(&self) -> Outcome<Self>;
    fn sin_cos(&self) -> Outcome<(Self, Self)>;
    /// The angle of the point (x, self), not the origin.
    fn angle(&self, x: &Self) -> Outcome<Self>;
    fn floor(&self) -> Outcome<Self>;
    /// Its sign; `Equal` only if it is exactly zero, `None` if the error hides it.
    fn sign(&self) -> Option<Ordering>;
    /// The integer it is exactly.
    fn integer(&self) -> Option<i64>;
    /// The number k with k − ½ < value·10^decimals ≤ k + ½, if the error allows only one.
    fn rounded(&self, decimals: u32) -> Option<dashu::integer::IBig>;
    /// Whether the two certainly differ.
    fn apart(&self, other: &Self) -> bool;
    /// Whether the two are equal as far as the errors tell, and the errors are small enough to say so.
    fn agrees(&self, other: &Self) -> bool;
}

/// re + i·im
#[derive(Clone, Debug)]
pub(super) struct Complex<R> {
    pub(super) re: R,
    pub(super) im: R,
}

pub(super) fn is_real<R: Real>(a: &Complex<R>) -> bool {
    a.im.sign() == Some(Ordering::Equal)
}

pub(super) fn is_zero<R: Real>(a: &Complex<R>) -> bool {
    is_real(a) && a.re.sign() == Some(Ordering::Equal)
}

impl<R: Real> Complex<R> {
    pub(super) fn apart(&self, other: &Self) -> bool {
        self.re.apart(&other.re) || self.im.apart(&other.im)
    }

    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.re.agrees(&other.re) && self.im.agrees(&other.im)
    }
}

/// The real part of a number that has no other.
pub(super) fn real_part<R: Real>(a: &Complex<R>) -> Outcome<&R> {
    if is_real(a) { Ok(&a.re) } else { Err(Failure::Unsupported) }
}
