//! Programs that are a little shorter.

use super::program::{Need, Op, Order, Program};

impl Program {
    /// The `at`-th of the programs that are shorter or simpler by one thing: by half of the steps first, by a detail of
    /// one step last.
    pub(super) fn shorter(&self, at: usize) -> Option<Self> {
        let mut left = at;
        let mut size = self.steps.len().div_ceil(2);
        while size > 0 {
            let cuts = self.steps.len().div_ceil(size);
            if left < cuts {
                let from = left * size;
                let mut steps = self.steps.clone();
                steps.drain(from..(from + size).min(steps.len()));
                return Some(Self { steps });
            }
            left -= cuts;
            size /= 2;
        }
        let simpler = |(number, (_, op)): (usize, &(usize, Op))| {
            simpler(op).into_iter().map(move |op| (number, op)).collect::<Vec<_>>()
        };
        let (number, op) = self.steps.iter().enumerate().flat_map(simpler).nth(left)?;
        let mut steps = self.steps.clone();
        if let Some(step) = steps.get_mut(number) {
            step.1 = op;
        }
        Some(Self { steps })
    }
}

/// All lists with one item less, none of them empty.
fn without_one<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let without = |at: usize| {
        let others = items.iter().enumerate().filter(move |(other, _)| *other != at);
        others.map(|(_, item)| item.clone()).collect::<Vec<T>>()
    };
    (0..items.len()).map(without).filter(|items| !items.is_empty()).collect()
}

/// All lists in which one item is simpler.
fn one_simpler<T: Clone>(items: &[T], simpler: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut lists = Vec::new();
    for (at, item) in items.iter().enumerate() {
        for simple in simpler(item) {
            let mut list = items.to_vec();
            if let Some(place) = list.get_mut(at) {
                *place = simple;
            }
            lists.push(list);
        }
    }
    lists
}

fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::OpenPlacing(orders) => without_one(orders)
            .into_iter()
            .chain(one_simpler(orders, simpler_order))
            .map(Op::OpenPlacing)
            .collect(),
        Op::OpenSettling(needs) => without_one(needs)
            .into_iter()
            .chain(one_simpler(needs, simpler_need))
            .map(Op::OpenSettling)
            .collect(),
        Op::StoreChanges(changes) => without_one(changes).into_iter().map(Op::StoreChanges).collect(),
        Op::Start(payments) => without_one(payments).into_iter().map(Op::Start).collect(),
        Op::Note(notes) => without_one(notes).into_iter().map(Op::Note).collect(),
        _ => Vec::new(),
    }
}

fn simpler_order(order: &Order) -> Vec<Order> {
    let lines = without_one(&order.lines).into_iter().map(|lines| Order { lines, ..order.clone() });
    let mut simpler: Vec<Order> = lines.collect();
    simpler.extend([
        Order { points: 0, ..order.clone() },
        Order { coupon: false, ..order.clone() },
        Order { key: None, ..order.clone() },
    ]);
    simpler.retain(|simple| simple != order);
    simpler
}

fn simpler_need(need: &Need) -> Vec<Need> {
    let mut simpler = vec![Need { goods: false, ..need.clone() }, Need { keys: Vec::new(), ..need.clone() }];
    simpler.retain(|simple| simple != need);
    simpler
}
