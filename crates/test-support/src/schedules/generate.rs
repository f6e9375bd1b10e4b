//! Schedules from a seed: few rows, so that the programs meet.

use super::program::{Change, Need, Note, Op, Order, Program, Read, Which};
use crate::TestEntropy;

struct Generator(TestEntropy);

/// The schedule of a seed.
pub fn generate(seed: u64) -> Program {
    let mut generator = Generator(TestEntropy::new(seed));
    let actors = if generator.percent(60) { 2 } else { 3 };
    let mut scripts: Vec<Vec<Op>> = (0..actors).map(|_| generator.script()).collect();
    let mut steps = Vec::new();
    // Any actor next that has steps left; the same one again more often than not.
    let mut actor = 0;
    while scripts.iter().any(|script| !script.is_empty()) {
        if generator.percent(55) {
            actor = generator.below(actors);
        }
        match scripts.get_mut(actor).filter(|script| !script.is_empty()) {
            Some(script) => steps.push((actor, script.remove(0))),
            None => actor = (actor + 1) % actors,
        }
    }
    Program { steps }
}

impl Generator {
    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or_default()
    }

    fn percent(&self, percent: u64) -> bool {
        self.0.percent(percent)
    }

    fn pick<T: Copy>(&self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }

    /// One to two transactions, or things that are transactions by themselves.
    fn script(&mut self) -> Vec<Op> {
        let parts = 1 + self.below(2);
        (0..parts).flat_map(|_| self.part()).collect()
    }

    fn part(&mut self) -> Vec<Op> {
        let mut ops = match self.below(10) {
            0..=2 => self.placing(),
            3..=6 => self.settling(),
            7 => self.single_changes(),
            _ => return vec![self.by_itself()],
        };
        ops.push(if self.percent(75) { Op::Commit } else { Op::Rollback });
        ops
    }

    fn placing(&mut self) -> Vec<Op> {
        let orders = (0..1 + self.below(2)).map(|_| self.order()).collect();
        let mut ops = vec![Op::OpenPlacing(orders)];
        if self.percent(85) {
            ops.push(Op::StoreOrders);
        }
        ops
    }

    fn order(&mut self) -> Order {
        let mut lines = vec![(self.below(2), 1)];
        if self.percent(30) {
            lines.push((self.below(2), 1 + i64::from(self.percent(50))));
        }
        Order {
            buyer: self.below(2),
            lines,
            points: if self.percent(35) { self.pick(&[10, 60, 1000]).unwrap_or_default() } else { 0 },
            coupon: self.percent(25),
            key: self.percent(40).then(|| self.below(2)),
        }
    }

    /// Mostly the same one or two of them.
    fn payment(&self) -> usize {
        if self.percent(80) { self.below(2) } else { self.below(5) }
    }

    fn settling(&mut self) -> Vec<Op> {
        let mut needs: Vec<Need> = Vec::new();
        for _ in 0..1 + self.below(2) {
            let payment = self.payment();
            let keys = if self.percent(40) { vec![self.below(3)] } else { Vec::new() };
            if needs.iter().all(|need| need.payment != payment) {
                needs.push(Need { payment, goods: self.percent(45), keys });
            }
        }
        let changes: Vec<_> = needs.iter().map(|need| (need.payment, self.change())).collect();
        let mut ops = vec![Op::OpenSettling(needs)];
        if self.percent(85) {
            ops.push(Op::StoreChanges(changes));
        }
        ops
    }

    fn change(&self) -> Change {
        let key = self.below(3);
        let all = [
            Change::Pay(key),
            Change::Pay(key),
            Change::Fail,
            Change::Fail,
            Change::Accept(key),
            Change::Watch,
            Change::Park,
            Change::Wake,
            Change::Hint(key),
            Change::HintsDone,
            Change::Charge(key),
            Change::Answer(self.below(2)),
        ];
        self.pick(&all).unwrap_or(Change::Fail)
    }

    fn single_changes(&mut self) -> Vec<Op> {
        let mut ops = vec![Op::Begin];
        for _ in 0..1 + self.below(3) {
            let buyer = self.below(3);
            match self.below(6) {
                0 | 1 => ops.push(Op::LockPoints(buyer)),
                2 => ops.extend([Op::LockPoints(buyer), Op::ChargePoints(buyer, 50)]),
                3 => ops.push(Op::SetStock(self.below(2), i64::from(self.percent(50)) * 4)),
                4 => ops.push(Op::IssueCoupon(buyer)),
                _ => ops.push(Op::SaveAnswer(self.below(2))),
            }
        }
        ops
    }

    fn by_itself(&mut self) -> Op {
        match self.below(9) {
            0 | 1 => Op::Start((0..1 + self.below(2)).map(|_| self.payment()).collect()),
            2 | 3 => Op::Note((0..1 + self.below(2)).map(|_| self.note()).collect()),
            4 | 5 => {
                let which = match self.below(4) {
                    0 => Which::Unsettled,
                    1 => Which::Watched,
                    2 => Which::Woken,
                    _ => Which::One(self.payment()),
                };
                Op::Claim(which, if self.percent(30) { 1 } else { 10 })
            }
            _ => {
                let at = self.payment();
                let read = match self.below(6) {
                    0 => Read::Payment(at),
                    1 => Read::Order(at),
                    2 => Read::Product(self.below(2)),
                    3 => Read::Buyer(self.below(2)),
                    4 => Read::Key(self.below(2)),
                    _ => Read::Ledger(at),
                };
                Op::Read(read)
            }
        }
    }

    fn note(&self) -> Note {
        match self.below(10) {
            0 => Note::Forged,
            1..=3 => Note::Unproven(self.payment()),
            _ => Note::Named(self.payment(), self.below(3)),
        }
    }
}
