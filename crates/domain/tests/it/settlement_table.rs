//! `settlement::decide` over every case there is within small bounds, against a table written from spec 01 sections 3 to
//! 5 and rows F48 to F66 of spec 04. The table reads the findings by counting; it knows nothing of how `decide` works.
//!
//! Two layers: [`expected`] names the exact outcome; [`laws`] are the promises that hold whatever the table says.

use domain::settlement::{
    self, Decision, Discrepancy, DiscrepancyKind, Findings, KeyAnswer, SettlementPolicy, Subject,
    Transaction, TransactionStatus, Verdict, Watch,
};
use domain::{GatewayKey, GatewayOrderRef, Money, PaymentStatus, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;
use time::macros::datetime;

const OURS: &str = "simul8-100001-00000000000000ff";
const FOREIGN: &str = "simul8-100002-00000000000000ff";
const PLACED: Timestamp = datetime!(2026-01-01 00:00 UTC);
const DUE: i64 = 5000;

/// What the gateway shows of one transaction, as far as any rule cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    status: TransactionStatus,
    right_amount: bool,
    ours: bool,
    /// Made before the payment was placed, and therefore not ours.
    older: bool,
    owned_elsewhere: bool,
}

impl Kind {
    fn all() -> Vec<Self> {
        let mut kinds = Vec::new();
        for status in TransactionStatus::ALL {
            for right_amount in [true, false] {
                for owned_elsewhere in [true, false] {
                    kinds.push(Self { status, right_amount, ours: true, older: false, owned_elsewhere });
                }
            }
            kinds.extend([true, false].map(|older| Self::not_ours(status, older)));
        }
        kinds
    }

    fn not_ours(status: TransactionStatus, older: bool) -> Self {
        Self { status, right_amount: true, ours: false, older, owned_elsewhere: false }
    }

    fn key(at: usize) -> GatewayKey {
        GatewayKey::new(format!("K{at}")).unwrap()
    }

    fn transaction(self, at: usize) -> Transaction {
        Transaction {
            key: Self::key(at),
            order_ref: GatewayOrderRef::from_gateway(if self.ours || self.older { OURS } else { FOREIGN }),
            amount: Money::new(if self.right_amount { DUE } else { DUE + 1 }).unwrap(),
            status: self.status,
            reason: Some(format!("reason {at}")),
            made_before: Some(PLACED + Duration::from_micros(u64::from(!self.older))),
        }
    }
}

/// The key that the payment holds, and what asking about it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// None.
    No,
    /// The first listed transaction's, and the gateway has it.
    First,
    /// One that the gateway has for another order.
    Another(TransactionStatus),
    /// One that the gateway does not know.
    Lost,
    /// One that came while the gateway was asked: the findings know nothing of it.
    Newer,
    /// The first of them, asked about before the payment's key became another: the findings are older than it.
    Replaced,
}

#[derive(Debug, Clone)]
struct Case {
    kinds: Vec<Kind>,
    held: Held,
    listed: bool,
    status: PaymentStatus,
    old: bool,
    since_deadline: Option<u64>,
    suspended: bool,
    counted: u32,
    seen: bool,
    last_look: bool,
}

const GRACE: u64 = 60;
const HELD_KEY: usize = 90;

impl Case {
    fn subject(&self) -> Subject {
        let key = match self.held {
            Held::No => None,
            Held::First => Some(Kind::key(0)),
            Held::Another(_) | Held::Lost | Held::Newer | Held::Replaced => Some(Kind::key(HELD_KEY)),
        };
        let owned = |(at, kind): (usize, &Kind)| kind.owned_elsewhere.then(|| Kind::key(at));
        Subject {
            status: self.status,
            key,
            order_ref: GatewayOrderRef::from_gateway(OURS),
            created_at: PLACED,
            paid_amount: Money::new(DUE).unwrap(),
            age: Duration::from_secs(if self.old { 300 } else { 299 }),
            since_send_deadline: self.since_deadline.map(Duration::from_secs),
            transaction_seen: self.seen,
            not_found_count: self.counted,
            keys_owned_elsewhere: self.kinds.iter().enumerate().filter_map(owned).collect(),
            last_look: self.last_look,
        }
    }

    fn findings(&self) -> Findings {
        let all: Vec<_> = self.kinds.iter().enumerate().map(|(at, kind)| kind.transaction(at)).collect();
        let by_key = match self.held {
            Held::No | Held::Newer => None,
            Held::First | Held::Replaced => all.first().cloned().map(KeyAnswer::Found),
            Held::Another(status) => {
                Some(KeyAnswer::Found(Kind::not_ours(status, false).transaction(HELD_KEY)))
            }
            Held::Lost => Some(KeyAnswer::NotFound(Kind::key(HELD_KEY))),
        };
        Findings { by_key, by_order: self.listed.then_some(all), ..Findings::default() }
    }

    fn policy(&self) -> SettlementPolicy {
        SettlementPolicy {
            force_fail_after: Duration::from_secs(300),
            not_found_confirmations: 2,
            not_found_grace: Duration::from_secs(GRACE),
            not_found_suspended: self.suspended,
        }
    }

    /// The transactions that the findings show.
    fn shown(&self) -> Vec<(usize, Kind)> {
        let shown = if self.listed {
            self.kinds.len()
        } else {
            usize::from(matches!(self.held, Held::First | Held::Replaced))
        };
        self.kinds.iter().copied().enumerate().take(shown).collect()
    }

    fn contradiction(&self) -> bool {
        match self.held {
            Held::Lost | Held::Another(_) => true,
            Held::First => !self.kinds[0].ours,
            Held::No | Held::Newer | Held::Replaced => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Paid(usize),
    Failed(String),
    Forced,
    Waits,
    Ended,
}

type Rows = BTreeSet<(DiscrepancyKind, Option<GatewayKey>)>;

/// One row of the table: when, and what then. The first that fits is taken.
type Row = (&'static str, bool, End);

fn expected(case: &Case) -> (End, Rows, Watch) {
    let shown = case.shown();
    let ours: Vec<_> = shown.iter().filter(|(_, kind)| kind.ours).copied().collect();
    let foreign: Vec<_> = shown
        .iter()
        // Listed for our order; but the one that we hold is a contradiction.
        .filter(|(at, kind)| case.listed && !kind.ours && !(case.held == Held::First && *at == 0))
        .copied()
        .collect();
    let is = |status| move |(_, kind): &(usize, Kind)| kind.status == status;
    let success: Vec<_> = ours.iter().copied().filter(is(TransactionStatus::Success)).collect();
    let pending = ours.iter().any(is(TransactionStatus::Pending));
    let foreign_success = foreign.iter().any(is(TransactionStatus::Success));
    let pays = success.iter().find(|(_, kind)| kind.right_amount && !kind.owned_elsewhere).map(|(at, _)| *at);

    let end = if case.status.is_terminal() {
        End::Ended
    } else {
        let overdue = case.old && case.since_deadline.is_some();
        let forced_or = |otherwise| if overdue { End::Forced } else { otherwise };
        let knows_key = match case.held {
            Held::Newer | Held::Replaced => false,
            Held::No | Held::First | Held::Another(_) | Held::Lost => true,
        };
        let confirmed = case.counted >= 2 && case.since_deadline.is_some_and(|since| since >= GRACE);
        let nothing = ours.is_empty() && foreign.is_empty();
        let text = |text: &str| End::Failed(text.to_owned());
        let declined = ours.first().map_or(String::new(), |(at, _)| format!("reason {at}"));
        let rows: Vec<Row> = vec![
            ("a SUCCESS with the right amount", pays.is_some(), End::Paid(pays.unwrap_or_default())),
            ("not all was asked for, or before the key came", !case.listed || !knows_key, End::Waits),
            (
                "our own request may still be under way",
                case.held == Held::No && case.since_deadline.is_none(),
                End::Waits,
            ),
            ("some still PENDING", pending, forced_or(End::Waits)),
            (
                "charged with a key that another payment owns (F43)",
                success.iter().any(|(_, kind)| kind.owned_elsewhere),
                forced_or(End::Waits),
            ),
            ("key contradicted, too many at once (F62)", case.contradiction() && case.suspended, End::Waits),
            ("key contradicted (F60, F61)", case.contradiction(), forced_or(End::Waits)),
            (
                "SUCCESS, but only with a wrong amount (F49)",
                !success.is_empty(),
                text("PG 승인 금액이 결제 금액과 일치하지 않습니다."),
            ),
            ("all FAILED", !ours.is_empty(), End::Failed(declined)),
            ("SUCCESS, but another order's", foreign_success, text("PG 거래가 다른 주문의 것입니다.")),
            ("none there, too many at once (F62)", case.suspended, End::Waits),
            ("none there, but one was seen", case.seen || !nothing, forced_or(End::Waits)),
            ("none there, said twice and late enough", confirmed, text("PG에 결제 내역이 없습니다.")),
            ("none there, not believed yet (F59)", true, End::Waits),
        ];
        rows.into_iter().find(|(_, fits, _)| *fits).map(|(_, _, end)| end).unwrap()
    };
    let all_declined = !ours.is_empty()
        && shown
            .iter()
            .filter(|(at, kind)| kind.ours || foreign.iter().any(|(other, _)| other == at))
            .all(is(TransactionStatus::Failed));
    let answer_stored = case.held != Held::No;
    let watch = match &end {
        End::Paid(_) if pending || case.contradiction() || !answer_stored => Watch::Full,
        End::Failed(_) if all_declined && answer_stored => Watch::Once,
        End::Failed(_) | End::Forced => Watch::Full,
        End::Ended if pending && !case.last_look => Watch::Full,
        End::Paid(_) | End::Waits | End::Ended => Watch::No,
    };
    (end.clone(), ledger(case, &end, &ours, &foreign), watch)
}

/// What a person must settle: every charge that pays nothing, and every contradiction.
fn ledger(case: &Case, end: &End, ours: &[(usize, Kind)], foreign: &[(usize, Kind)]) -> Rows {
    let mut rows = Rows::new();
    let held = case.subject().key;
    for (at, kind) in ours {
        let key = Kind::key(*at);
        let is_held = held.as_ref() == Some(&key);
        let row = match (kind.status, end, case.status) {
            (TransactionStatus::Success, End::Ended, PaymentStatus::Paid) if is_held => None,
            (TransactionStatus::Success, End::Ended, PaymentStatus::Paid) => {
                Some(DiscrepancyKind::DuplicateCharge)
            }
            (TransactionStatus::Success, End::Ended, _) => Some(DiscrepancyKind::LateSuccess),
            (TransactionStatus::Success, End::Paid(paying), _) if paying == at => None,
            (TransactionStatus::Success, End::Paid(_), _) => Some(DiscrepancyKind::DuplicateCharge),
            (TransactionStatus::Success, _, _) if kind.owned_elsewhere => Some(DiscrepancyKind::KeyReused),
            (TransactionStatus::Success, _, _) => Some(DiscrepancyKind::AmountMismatch),
            (TransactionStatus::Failed, End::Ended, PaymentStatus::Paid) if is_held => {
                Some(DiscrepancyKind::Conflict)
            }
            (TransactionStatus::Pending, End::Ended, _) if case.last_look => {
                Some(DiscrepancyKind::NeverSettled)
            }
            (TransactionStatus::Failed | TransactionStatus::Pending, _, _) => None,
        };
        rows.extend(row.map(|kind| (kind, Some(key))));
    }
    for (at, kind) in foreign {
        if kind.status == TransactionStatus::Success {
            rows.insert((DiscrepancyKind::OrderMismatch, Some(Kind::key(*at))));
        }
    }
    if case.contradiction() && !case.status.is_terminal() {
        rows.insert((DiscrepancyKind::PgLost, held));
    }
    rows
}

fn rows_of(discrepancies: &[Discrepancy]) -> Rows {
    discrepancies.iter().map(|row| (row.kind, row.key.clone())).collect()
}

fn end_of(decision: &Decision) -> End {
    match &decision.verdict {
        Verdict::Pay { key } => {
            let at = key.as_str().trim_start_matches('K').parse().unwrap();
            End::Paid(at)
        }
        Verdict::Fail { forced: true, message } => {
            assert_eq!(message.as_str(), "결제 시간 초과");
            End::Forced
        }
        Verdict::Fail { forced: false, message } => End::Failed(message.as_str().to_owned()),
        Verdict::Wait { .. } => End::Waits,
        Verdict::Ended => End::Ended,
    }
}

/// The promises, each from the specification's own words and none from the table above.
fn laws(case: &Case, decision: &Decision) {
    let shown = case.shown();
    let approved = |(_, kind): &&(usize, Kind)| kind.ours && kind.status == TransactionStatus::Success;
    let ended_before = case.status.is_terminal();
    match &decision.verdict {
        Verdict::Pay { key } => {
            // "never PAID" by a wrong amount, another order's transaction or another payment's key.
            let (_, paying) = shown.iter().find(|(at, _)| Kind::key(*at) == *key).unwrap();
            assert!(paying.ours && paying.right_amount && !paying.owned_elsewhere);
            assert_eq!(paying.status, TransactionStatus::Success);
        }
        Verdict::Fail { forced, .. } => {
            // Nobody is charged without getting the order.
            assert!(!shown.iter().filter(approved).any(|(_, k)| k.right_amount && !k.owned_elsewhere));
            // "only on a fresh answer of the PG, never blindly".
            assert!(case.listed);
            // No request of ours may still be on its way.
            assert!(case.since_deadline.is_some() || case.held != Held::No);
            let undecided = shown.iter().any(|(_, k)| k.ours && k.status == TransactionStatus::Pending);
            assert!(!undecided || *forced);
            assert!(!forced || case.old);
            // "Many 'no such transaction' at once stop all such verdicts."
            let none = !shown.iter().any(|(_, k)| k.ours);
            let foreign_charge = shown.iter().any(|(_, k)| k.status == TransactionStatus::Success);
            assert!(!(none && case.suspended) || foreign_charge);
            // The watch list.
            let all_failed = !none && shown.iter().all(|(_, k)| k.status == TransactionStatus::Failed);
            assert!(decision.watch == Watch::Full || all_failed);
            assert_ne!(decision.watch, Watch::No);
        }
        Verdict::Wait { adopt, .. } => {
            if let Some(key) = adopt {
                let (_, kind) = shown.iter().find(|(at, _)| Kind::key(*at) == *key).unwrap();
                assert!(kind.ours && kind.right_amount && !kind.owned_elsewhere && case.held == Held::No);
            }
        }
        Verdict::Ended => assert!(ended_before),
    }
    assert_eq!(matches!(decision.verdict, Verdict::Ended), ended_before);
    // "every PG charge is matched by a paid order or by an open row": one row for each, whatever the verdict.
    let paying = match (&decision.verdict, case.status) {
        (Verdict::Pay { key }, _) => Some(key.clone()),
        (_, PaymentStatus::Paid) => case.subject().key,
        _ => None,
    };
    for (at, _) in shown.iter().filter(approved) {
        let key = Kind::key(*at);
        let rows = decision
            .discrepancies
            .iter()
            .filter(|row| row.kind.is_charge() && row.key.as_ref() == Some(&key))
            .count();
        assert_eq!(rows, usize::from(paying != Some(key)), "charge {at}");
    }
    let facts: BTreeSet<_> = decision.discrepancies.iter().map(Discrepancy::fact).collect();
    assert_eq!(facts.len(), decision.discrepancies.len(), "one fact makes one row");
}

fn check(case: &Case) {
    let decision = settlement::decide(&case.subject(), &case.findings(), &case.policy());
    let actual = (end_of(&decision), rows_of(&decision.discrepancies), decision.watch);
    assert_eq!(actual, expected(case), "{case:#?}\n{decision:#?}");
    laws(case, &decision);
}

/// All lists of up to two transactions, in order; and all sets of three.
fn lists() -> Vec<Vec<Kind>> {
    let kinds = Kind::all();
    let mut lists = vec![Vec::new()];
    for one in &kinds {
        lists.push(vec![*one]);
        for two in &kinds {
            lists.push(vec![*one, *two]);
            lists.extend(
                kinds
                    .iter()
                    .filter(|three| one <= two && two <= *three)
                    .map(|three| vec![*one, *two, *three]),
            );
        }
    }
    lists
}

fn helds(kinds: &[Kind]) -> Vec<Held> {
    let mut helds = vec![Held::No, Held::Lost, Held::Newer];
    helds.extend(TransactionStatus::ALL.map(Held::Another));
    // A key that we hold is owned by no other payment: the database's unique index.
    if kinds.first().is_some_and(|first| !first.owned_elsewhere) {
        helds.extend([Held::First, Held::Replaced]);
    }
    helds
}

#[test]
fn every_unsettled_case_ends_as_the_table_says() {
    let mut cases = 0_u64;
    for kinds in lists() {
        for held in helds(&kinds) {
            for (old, since_deadline) in
                [(false, None), (false, Some(59)), (false, Some(60)), (true, None), (true, Some(290))]
            {
                for (suspended, counted, seen) in [
                    (false, 0, false),
                    (false, 1, false),
                    (false, 2, false),
                    (false, 2, true),
                    (true, 2, false),
                    (true, 2, true),
                ] {
                    let status = if cases.is_multiple_of(7) {
                        PaymentStatus::Pending
                    } else {
                        PaymentStatus::InProgress
                    };
                    // A PENDING payment holds no key.
                    let status = if held == Held::No { status } else { PaymentStatus::InProgress };
                    let kinds = kinds.clone();
                    let last_look = false;
                    check(&Case {
                        kinds,
                        held,
                        listed: true,
                        status,
                        old,
                        since_deadline,
                        suspended,
                        counted,
                        seen,
                        last_look,
                    });
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} unsettled cases");
    assert!(cases >= 100_000, "{cases}");
}

#[test]
fn without_the_list_a_payment_is_paid_or_waits() {
    for kinds in lists().into_iter().filter(|kinds| kinds.len() == 1) {
        for held in helds(&kinds) {
            for (old, since_deadline) in [(false, None), (true, Some(290))] {
                check(&Case {
                    kinds: kinds.clone(),
                    held,
                    listed: false,
                    status: PaymentStatus::InProgress,
                    old,
                    since_deadline,
                    suspended: false,
                    counted: 2,
                    seen: false,
                    last_look: false,
                });
            }
        }
    }
}

#[test]
fn every_ended_case_stays_and_fills_the_ledger() {
    let mut cases = 0_u64;
    for kinds in lists() {
        for held in helds(&kinds) {
            for status in [PaymentStatus::Paid, PaymentStatus::Failed] {
                for last_look in [false, true] {
                    check(&Case {
                        kinds: kinds.clone(),
                        held,
                        listed: true,
                        status,
                        old: true,
                        since_deadline: Some(290),
                        suspended: false,
                        counted: 2,
                        seen: true,
                        last_look,
                    });
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} ended cases");
    assert!(cases >= 10_000, "{cases}");
}
