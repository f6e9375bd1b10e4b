//! One of the programs of a schedule: its transaction, and what it does in a step.

use super::Side;
use super::program::{Change, Note, Op, Order, Place, Read, Which};
use super::setup::{HOUR, Rows, moved, timed};
use crate::contract::world::{Ask, token_hash};
use domain::placement::{KeyState, NewOrder, Placing};
use domain::ports::{
    CallbackNote, ClaimOptions, CommitError, Due, NewOrderIds, PointEntry, PointEntryKind, StoreError,
    StoreTx, StoredAnswer,
};
use domain::settlement::{
    Case, Changes, Check, Discrepancy, DiscrepancyKind, Settling, SettlingNeeds, StockBack,
};
use domain::{FailureMessage, Money, Payment, PointAccount, Stock, UserId};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

/// What a step gave back.
pub(super) struct Returned {
    /// As text, not yet normal.
    pub(super) text: String,
    /// Orders that were opened.
    pub(super) orders: Vec<NewOrderIds>,
}

#[derive(Default)]
pub(super) struct Actor {
    tx: Option<Box<dyn StoreTx>>,
    placing: Option<(Vec<Ask>, Placing)>,
    settling: Option<Settling>,
    accounts: BTreeMap<UserId, PointAccount>,
}

/// Only the kind of an error is compared.
fn kind(error: &StoreError) -> String {
    let kind = match error {
        StoreError::Conflict { .. } => "Conflict",
        StoreError::Unavailable { .. } => "Unavailable",
        StoreError::Corrupt { .. } => "Corrupt",
        StoreError::Other { .. } => "Other",
    };
    format!("fails: {kind}")
}

fn text<T: Debug>(result: Result<T, StoreError>) -> Result<String, StoreError> {
    result.map(|value| format!("{value:?}"))
}

fn won(amount: i64) -> Result<Money, StoreError> {
    Money::new(amount).map_err(|error| StoreError::Other { what: error.to_string() })
}

impl Actor {
    pub(super) const fn is_open(&self) -> bool {
        self.tx.is_some()
    }

    /// Does one step. One that fails takes the transaction back.
    pub(super) async fn step(&mut self, side: &Side, rows: &Rows, number: usize, op: &Op) -> Returned {
        let mut orders = Vec::new();
        let done = match op {
            Op::Begin | Op::OpenPlacing(_) | Op::OpenSettling(_) => {
                let opened = self.open(side, rows, op).await;
                orders = self.placing.as_ref().map(|(_, placing)| placing.ids.clone()).unwrap_or_default();
                opened
            }
            Op::Commit => return Returned { text: self.commit().await, orders },
            Op::Rollback => {
                self.rollback().await;
                Ok("done".to_owned())
            }
            Op::Start(_) | Op::Note(_) | Op::Claim(..) | Op::Read(_) => {
                by_itself(side, rows, number, op).await
            }
            _ => self.within(rows, op).await,
        };
        let text = match done {
            Ok(text) => text,
            Err(error) => {
                self.rollback().await;
                kind(&error)
            }
        };
        Returned { text, orders }
    }

    pub(super) async fn rollback(&mut self) {
        if let Some(tx) = std::mem::take(self).tx {
            tx.rollback().await;
        }
    }

    async fn commit(&mut self) -> String {
        match std::mem::take(self).tx {
            None => "nothing is open".to_owned(),
            Some(tx) => match tx.commit().await {
                Ok(()) => "done".to_owned(),
                Err(CommitError::RolledBack(error)) => kind(&error),
                Err(CommitError::OutcomeUnknown) => "outcome unknown".to_owned(),
            },
        }
    }

    async fn open(&mut self, side: &Side, rows: &Rows, op: &Op) -> Result<String, StoreError> {
        match op {
            Op::OpenPlacing(orders) => {
                let asks: Vec<Ask> = orders.iter().map(|order| ask(rows, order)).collect();
                let needs: Vec<_> = asks.iter().map(Ask::needs).collect();
                let (tx, placing) = side.store.open_placing(&needs).await?;
                let shown = format!("{placing:?}");
                *self = Self { tx: Some(tx), placing: Some((asks, placing)), ..Self::default() };
                Ok(shown)
            }
            Op::OpenSettling(needs) => {
                let needs: Vec<SettlingNeeds> = needs
                    .iter()
                    .filter_map(|need| {
                        Some(SettlingNeeds {
                            payment_id: rows.order(need.payment)?.payment_id,
                            keys: need.keys.iter().filter_map(|key| rows.key(*key)).collect(),
                            goods: need.goods,
                        })
                    })
                    .collect();
                let (tx, settling) = side.store.open_settling(&needs).await?;
                let shown = format!("{settling:?}");
                *self = Self { tx: Some(tx), settling: Some(settling), ..Self::default() };
                Ok(shown)
            }
            _ => {
                let tx = side.store.begin("schedule").await?;
                *self = Self { tx: Some(tx), ..Self::default() };
                Ok("done".to_owned())
            }
        }
    }

    async fn within(&mut self, rows: &Rows, op: &Op) -> Result<String, StoreError> {
        let Some(tx) = &self.tx else { return Ok("nothing is open".to_owned()) };
        match op {
            Op::StoreOrders => {
                let Some((asks, placing)) = &mut self.placing else { return Ok("nothing".to_owned()) };
                let orders = decide(placing, asks);
                tx.store_orders(&orders).await?;
                let stored: Vec<_> = orders.iter().map(|new| new.order.id()).collect();
                Ok(format!("stored {stored:?}"))
            }
            Op::StoreChanges(changes) => {
                let Some(settling) = &mut self.settling else { return Ok("nothing".to_owned()) };
                let mut become_of = BTreeMap::new();
                for (at, change) in changes {
                    // Each payment at most once; two places may be the same one.
                    if let Some(change) = self::become_of(rows, settling, *at, *change) {
                        become_of.entry(change.payment_id).or_insert(change);
                    }
                }
                let changes: Vec<Changes> = become_of.into_values().collect();
                text(tx.store_changes(&changes).await)
            }
            Op::LockPoints(buyer) => {
                let account = tx.lock_points(rows.buyer(*buyer)).await?;
                self.accounts.insert(account.user_id(), account);
                Ok(format!("{account:?}"))
            }
            Op::ChargePoints(buyer, amount) => {
                let amount = won(*amount)?;
                let account = self.accounts.get_mut(&rows.buyer(*buyer));
                let Some(charged) = account.and_then(|account| {
                    *account = account.charge(amount).ok()?;
                    Some(*account)
                }) else {
                    return Ok("not locked".to_owned());
                };
                let kind = PointEntryKind::Charge;
                text(tx.save_points(&PointEntry { account: charged, kind, amount, payment_id: None }).await)
            }
            Op::SetStock(product, pieces) => {
                let stock =
                    Stock::new(*pieces).map_err(|error| StoreError::Other { what: error.to_string() })?;
                text(tx.set_stock(rows.product(*product), stock).await)
            }
            Op::IssueCoupon(buyer) => text(tx.insert_issued_coupon(rows.coupon, rows.buyer(*buyer)).await),
            Op::SaveAnswer(key) => {
                text(tx.save_idempotent_answer(&rows.idempotency(*key).key, &answer("saved")).await)
            }
            _ => Ok("nothing".to_owned()),
        }
    }
}

fn answer(body: &str) -> StoredAnswer {
    StoredAnswer { status: 200, body: body.to_owned() }
}

fn ask(rows: &Rows, order: &Order) -> Ask {
    Ask {
        user: rows.buyer(order.buyer),
        lines: order.lines.iter().map(|(at, pieces)| (rows.product(*at), *pieces)).collect(),
        points: order.points,
        coupon: order.coupon.then_some(rows.issued),
        key: order.key.map(|key| {
            let mut keyed = rows.idempotency(key);
            keyed.key.user_id = rows.buyer(order.buyer);
            keyed
        }),
        send_within: Duration::ZERO,
        check_in: Duration::ZERO,
    }
}

/// One after the other, as the use-case does it; who is refused takes nothing.
fn decide(placing: &mut Placing, asks: &[Ask]) -> Vec<NewOrder> {
    let mut orders = Vec::new();
    for (at, ask) in asks.iter().enumerate() {
        let state = ask.key.as_ref().and_then(|keyed| placing.keys.get_mut(&keyed.key));
        if matches!(state, Some(KeyState::BeingTaken | KeyState::Known(_))) {
            continue;
        }
        if let Ok(order) = timed(placing, at, ask, true, false) {
            let state = ask.key.as_ref().and_then(|keyed| placing.keys.get_mut(&keyed.key));
            state.into_iter().for_each(|state| *state = KeyState::BeingTaken);
            orders.push(order);
        }
    }
    orders
}

/// What becomes of a payment that was opened; none: it was not, or its state does not take that.
fn become_of(rows: &Rows, settling: &mut Settling, at: Place, change: Change) -> Option<Changes> {
    let id = rows.order(at)?.payment_id;
    let with_goods = settling.with_goods.contains(&id);
    let now = settling.shared.now;
    let case = settling.cases.get(&id)?;
    let nothing = Changes::none(id, case.record.payment.order_id());
    let started = |payment: Payment| payment.clone().start().unwrap_or(payment);
    let check = |change: &dyn Fn(Check) -> Check| Some(change(case.check));
    Some(match change {
        Change::Pay(key) => {
            let key = rows.key(key)?;
            let paid = moved(case, |payment| {
                started(payment).update_external_payment_key(key).ok()?.success().ok()
            })?;
            Changes { order: Some(case.order.with(case.order.value.clone().pay().ok()?)), ..paid }
        }
        Change::Fail => {
            let message = Some(FailureMessage::from_outside("no"));
            let failed = moved(case, |payment| payment.fail(message).ok())?;
            let order = Some(case.order.with(case.order.value.clone().cancel().ok()?));
            let failed = Changes { order, ..failed };
            if with_goods { give_back(case, &mut settling.shared.points, failed)? } else { failed }
        }
        Change::Accept(key) => {
            let key = rows.key(key)?;
            let accepted = moved(case, |payment| started(payment).update_external_payment_key(key).ok())?;
            Changes { sending_ended: true, ..accepted }
        }
        Change::Watch => {
            let due_at = Some(now + HOUR);
            let watched = |check: Check| Check { watch_wanted: true, due_at, watch_step: 1, ..check };
            Changes { check: check(&watched), ..nothing }
        }
        Change::Park => {
            Changes { check: check(&|check| Check { parked_at: Some(now), failures: 8, ..check }), ..nothing }
        }
        Change::Wake => {
            Changes { check: check(&|check| Check { woken_at: Some(now), lease: None, ..check }), ..nothing }
        }
        Change::Hint(key) => Changes { hint: rows.key(key), ..nothing },
        Change::HintsDone => {
            Changes { hints_done: case.hints.iter().map(|hint| hint.key.clone()).collect(), ..nothing }
        }
        Change::Charge(key) => {
            let amount = Some(case.record.payment.amounts().paid_amount());
            let (kind, evidence) = (DiscrepancyKind::LateSuccess, "charged".to_owned());
            Changes {
                discrepancies: vec![Discrepancy { kind, key: rows.key(key), amount, evidence }],
                ..nothing
            }
        }
        Change::Answer(key) => {
            Changes { answer: Some((rows.idempotency(key).key, answer("settled"))), ..nothing }
        }
    })
}

fn give_back(case: &Case, points: &mut BTreeMap<UserId, PointAccount>, failed: Changes) -> Option<Changes> {
    let payment = &case.record.payment;
    let amount = payment.amounts().used_point();
    let points_back = if amount.is_positive() {
        let account = points.get_mut(&payment.user_id())?;
        *account = account.restore(amount).ok()?;
        let (account, kind) = (*account, PointEntryKind::Restore);
        Some(PointEntry { account, kind, amount, payment_id: Some(payment.id()) })
    } else {
        None
    };
    let coupon_back = match &case.coupon {
        Some(holding) => Some(holding.with(holding.value.issued.cancel_use().ok()?)),
        None => None,
    };
    let items = case.order.value.items().iter();
    let stock_back =
        items.map(|item| StockBack { product_id: item.product_id, quantity: item.quantity }).collect();
    Some(Changes { stock_back, points_back, coupon_back, ..failed })
}

/// What is a transaction of its own, or none.
async fn by_itself(side: &Side, rows: &Rows, number: usize, op: &Op) -> Result<String, StoreError> {
    match op {
        Op::Start(places) => {
            let ids: Vec<_> = places.iter().filter_map(|at| Some(rows.order(*at)?.payment_id)).collect();
            text(side.store.start_payments(&ids).await)
        }
        Op::Note(notes) => {
            let mut said = Vec::new();
            for note in notes {
                said.extend(callback(side, rows, *note).await?);
            }
            text(side.store.note_callbacks(&said).await)
        }
        Op::Claim(which, limit) => {
            let min_interval = Duration::ZERO;
            let due = match which {
                Which::Unsettled => Due::Unsettled,
                Which::Watched => Due::Watched,
                Which::Woken => Due::Woken { min_interval },
                Which::One(at) => match rows.order(*at) {
                    Some(ids) => Due::One { payment_id: ids.payment_id, min_interval },
                    None => return Ok("nothing".to_owned()),
                },
            };
            let options =
                ClaimOptions { due, limit: *limit, lease_id: rows.lease(number), lease: HOUR, due_by: None };
            text(side.store.claim(&options).await)
        }
        Op::Read(read) => self::read(side, rows, *read).await,
        _ => Ok("nothing".to_owned()),
    }
}

async fn callback(side: &Side, rows: &Rows, note: Note) -> Result<Option<CallbackNote>, StoreError> {
    let named = |token_hash, key| Some(CallbackNote::Named { token_hash, key: rows.key(key)? });
    Ok(match note {
        Note::Forged => named([1; 32], 0),
        Note::Named(at, key) => rows.order(at).and_then(|ids| named(token_hash(ids.payment_id), key)),
        Note::Unproven(at) => match rows.order(at) {
            Some(ids) => side
                .queries
                .payment(None, ids.payment_id)
                .await?
                .map(|view| CallbackNote::Unproven { order_ref: view.record.order_ref }),
            None => None,
        },
    })
}

pub(super) async fn read(side: &Side, rows: &Rows, read: Read) -> Result<String, StoreError> {
    let queries = &side.queries;
    let ids = match read {
        Read::Payment(at) | Read::Order(at) | Read::Ledger(at) => match rows.order(at) {
            Some(ids) => Some(ids),
            None => return Ok("nothing".to_owned()),
        },
        Read::Product(_) | Read::Buyer(_) | Read::Key(_) => None,
    };
    match (read, ids) {
        (Read::Payment(_), Some(ids)) => text(queries.payment(None, ids.payment_id).await),
        (Read::Order(_), Some(ids)) => text(queries.order(None, ids.order_id).await),
        (Read::Ledger(_), Some(ids)) => text(queries.discrepancies_of(ids.payment_id).await),
        (Read::Product(at), _) => text(queries.product(rows.product(at)).await),
        (Read::Buyer(at), _) => {
            let buyer = rows.buyer(at);
            let points = queries.point_balance(buyer).await?;
            Ok(format!("{points:?} {:?}", queries.issued_coupons(buyer).await?))
        }
        (Read::Key(key), _) => text(queries.idempotency(&rows.idempotency(key).key).await),
        (Read::Payment(_) | Read::Order(_) | Read::Ledger(_), None) => Ok("nothing".to_owned()),
    }
}

/// All that is stored of a run, as text.
pub(super) async fn all(side: &Side, rows: &Rows) -> Result<Vec<String>, StoreError> {
    let mut all = Vec::new();
    for at in 0..2 {
        all.push(read(side, rows, Read::Product(at)).await?);
        all.push(read(side, rows, Read::Key(at)).await?);
    }
    for at in 0..3 {
        all.push(read(side, rows, Read::Buyer(at)).await?);
    }
    let orders = rows.all_orders();
    for at in 0..orders.len() {
        all.push(read(side, rows, Read::Payment(at)).await?);
        all.push(read(side, rows, Read::Order(at)).await?);
        all.push(read(side, rows, Read::Ledger(at)).await?);
    }
    let needs: Vec<_> = orders
        .iter()
        .map(|ids| SettlingNeeds { payment_id: ids.payment_id, keys: Vec::new(), goods: true })
        .collect();
    let (tx, settling) = side.store.open_settling(&needs).await?;
    tx.rollback().await;
    all.extend(settling.cases.values().map(|case| format!("{case:?}")));
    Ok(all)
}
