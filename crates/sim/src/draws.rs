//! Who drew which random number. Orders bear one in their reference and claims are named by one, so that it tells whose
//! they are, and in which order a program's orders came.

use crate::flow::{self, Flow};
use crate::world::{World, lock};
use domain::GatewayOrderRef;
use domain::ports::Entropy;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use test_support::TestEntropy;

/// One life of a program: its seed and how often it was started.
pub type Life = (u64, u64);

/// A number that was drawn.
#[derive(Debug, Clone)]
pub struct Draw {
    /// The task that drew it, when it was one of a program.
    pub flow: Option<Arc<Flow>>,
    /// The program.
    pub life: Life,
    /// Counted over all draws of the run.
    pub nth: u64,
    /// An order with this number was to be stored before.
    pub tried: bool,
}

/// All numbers of a run.
#[derive(Debug, Default)]
pub struct Draws {
    by_number: BTreeMap<u64, Draw>,
    next: u64,
}

impl Draws {
    /// Who drew this one.
    pub fn get(&self, number: u64) -> Option<&Draw> {
        self.by_number.get(&number)
    }

    /// The order with this number is to be stored.
    pub fn tried(&mut self, number: u64) {
        if let Some(draw) = self.by_number.get_mut(&number) {
            draw.tried = true;
        }
    }

    /// So many were drawn so far.
    pub const fn count(&self) -> u64 {
        self.next
    }
}

/// The number in an order's reference.
pub fn of_reference(order_ref: &GatewayOrderRef) -> Option<u64> {
    u64::from_str_radix(order_ref.as_str().rsplit('-').next()?, 16).ok()
}

/// A program's randomness.
pub struct Drawing {
    inner: TestEntropy,
    world: Weak<World>,
    life: Life,
}

impl Drawing {
    /// Of one life of a program.
    pub const fn new(inner: TestEntropy, world: Weak<World>, life: Life) -> Self {
        Self { inner, world, life }
    }
}

impl Entropy for Drawing {
    fn token(&self) -> [u8; 32] {
        let token = self.inner.token();
        let [a, b, c, d, e, f, g, h, ..] = token;
        if let Some(world) = self.world.upgrade() {
            let mut draws = lock(&world.draws);
            draws.next += 1;
            let draw = Draw { flow: flow::current(), life: self.life, nth: draws.next, tried: false };
            draws.by_number.insert(u64::from_be_bytes([a, b, c, d, e, f, g, h]), draw);
        }
        token
    }

    fn fraction(&self) -> f64 {
        self.inner.fraction()
    }
}
