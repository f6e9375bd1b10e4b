//! The rows of the failure catalogue that settlement decides, each by its number.

use TransactionStatus::{Failed, Pending, Success};
use domain::settlement::{
    self, DECLINED_MESSAGE, Decision, Discrepancy, DiscrepancyKind, FORCED_MESSAGE, Findings, KeyAnswer,
    NOT_FOUND_MESSAGE, SettlementPolicy, Subject, Transaction, TransactionStatus, Verdict, Waiting, Watch,
};
use domain::{GatewayKey, GatewayOrderRef, Money, PaymentStatus, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;
use time::macros::datetime;

const OURS: i64 = 100_001;
const FOREIGN: i64 = 100_002;
const PLACED: Timestamp = datetime!(2026-01-01 00:00 UTC);

fn key(text: &str) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

fn order(id: i64) -> GatewayOrderRef {
    GatewayOrderRef::from_gateway(format!("simul8-{id}-00000000000000ff"))
}

fn transaction(text: &str, status: TransactionStatus) -> Transaction {
    let amount = Money::new(5000).unwrap();
    Transaction { key: key(text), order_ref: order(OURS), amount, status, reason: None, made_before: None }
}

fn of_another_order(transaction: Transaction) -> Transaction {
    Transaction { order_ref: order(FOREIGN), ..transaction }
}

fn with_amount(transaction: Transaction, won: i64) -> Transaction {
    Transaction { amount: Money::new(won).unwrap(), ..transaction }
}

/// One minute after the send deadline, nothing said before.
fn subject() -> Subject {
    Subject {
        status: PaymentStatus::InProgress,
        key: None,
        order_ref: order(OURS),
        created_at: PLACED,
        paid_amount: Money::new(5000).unwrap(),
        age: Duration::from_secs(65),
        since_send_deadline: Some(Duration::from_secs(60)),
        transaction_seen: false,
        not_found_count: 0,
        keys_owned_elsewhere: BTreeSet::new(),
        last_look: false,
    }
}

fn holding(text: &str) -> Subject {
    Subject { key: Some(key(text)), ..subject() }
}

fn aged(subject: Subject) -> Subject {
    let since_send_deadline = Some(Duration::from_secs(296));
    Subject { age: Duration::from_secs(300), since_send_deadline, ..subject }
}

fn ended(status: PaymentStatus, text: Option<&str>) -> Subject {
    Subject { status, key: text.map(key), ..aged(subject()) }
}

const RULES: SettlementPolicy = SettlementPolicy {
    force_fail_after: Duration::from_secs(300),
    not_found_confirmations: 2,
    not_found_grace: Duration::from_secs(60),
    not_found_suspended: false,
};

fn listed(transactions: &[Transaction]) -> Findings {
    Findings { by_order: Some(transactions.to_vec()), ..Findings::default() }
}

/// The held one was asked for by its key, and stands in the list too.
fn by_key(held: &Transaction, others: &[Transaction]) -> Findings {
    let list = std::iter::once(held).chain(others).cloned().collect();
    Findings { by_key: Some(KeyAnswer::Found(held.clone())), by_order: Some(list), ..Findings::default() }
}

fn lost(text: &str, others: &[Transaction]) -> Findings {
    let by_key = Some(KeyAnswer::NotFound(key(text)));
    Findings { by_key, by_order: Some(others.to_vec()), ..Findings::default() }
}

fn decide(subject: &Subject, findings: &Findings) -> Decision {
    settlement::decide(subject, findings, &RULES)
}

fn paid_by(decision: &Decision) -> Option<&str> {
    match &decision.verdict {
        Verdict::Pay { key } => Some(key.as_str()),
        _ => None,
    }
}

fn failed(decision: &Decision) -> Option<(&str, bool)> {
    match &decision.verdict {
        Verdict::Fail { message, forced } => Some((message.as_str(), *forced)),
        _ => None,
    }
}

fn waits(decision: &Decision) -> Option<Waiting> {
    match &decision.verdict {
        Verdict::Wait { why, .. } => Some(*why),
        _ => None,
    }
}

fn rows(decision: &Decision) -> Vec<(DiscrepancyKind, &str)> {
    let row = |row: &Discrepancy| row.kind;
    decision.discrepancies.iter().map(|d| (row(d), d.key.as_ref().map_or("", GatewayKey::as_str))).collect()
}

#[test]
fn f36_a_success_after_our_time_out_pays() {
    let decision = decide(&subject(), &listed(&[transaction("A", Success)]));
    assert_eq!(paid_by(&decision), Some("A"));
    assert!(decision.discrepancies.is_empty());
}

#[test]
fn f37_f59_none_there_is_believed_when_said_twice_and_late_enough() {
    let nothing = listed(&[]);
    let said = |count, since: Option<u64>| {
        let since_send_deadline = since.map(Duration::from_secs);
        decide(&Subject { not_found_count: count, since_send_deadline, ..subject() }, &nothing)
    };
    assert_eq!(waits(&said(1, Some(600))), Some(Waiting::NotFoundYet));
    assert_eq!(waits(&said(2, Some(59))), Some(Waiting::NotFoundYet));
    assert_eq!(waits(&said(9, None)), Some(Waiting::StillSending));
    let believed = said(2, Some(60));
    assert_eq!(failed(&believed), Some((NOT_FOUND_MESSAGE, false)));
    assert_eq!(believed.watch, Watch::Full);
}

#[test]
fn f38_a_transaction_that_appears_late_is_not_none() {
    let twice = Subject { not_found_count: 2, ..subject() };
    assert_eq!(
        waits(&decide(&twice, &listed(&[transaction("A", Pending)]))),
        Some(Waiting::TransactionPending)
    );
    assert_eq!(paid_by(&decide(&twice, &listed(&[transaction("A", Success)]))), Some("A"));
}

/// A list that shows only another order's transactions is not "no such transaction": that was not said.
#[test]
fn a_list_of_foreign_transactions_is_not_none() {
    let twice = Subject { not_found_count: 2, ..subject() };
    let foreign = listed(&[of_another_order(transaction("A", Pending))]);
    assert_eq!(waits(&decide(&twice, &foreign)), Some(Waiting::KeyContradicted));
    assert_eq!(failed(&decide(&aged(twice), &foreign)), Some((FORCED_MESSAGE, true)));
}

#[test]
fn one_that_was_seen_and_is_gone_is_forced_not_believed() {
    let seen = Subject { transaction_seen: true, not_found_count: 9, ..subject() };
    assert_eq!(waits(&decide(&seen, &listed(&[]))), Some(Waiting::KeyContradicted));
    assert_eq!(failed(&decide(&aged(seen), &listed(&[]))), Some((FORCED_MESSAGE, true)));
}

#[test]
fn f30_f63_the_first_success_pays_and_each_other_is_a_duplicate_charge() {
    let list = [transaction("A", Failed), transaction("B", Success), transaction("C", Success)];
    let decision = decide(&subject(), &listed(&list));
    assert_eq!(paid_by(&decision), Some("B"));
    assert_eq!(rows(&decision), [(DiscrepancyKind::DuplicateCharge, "C")]);
    // The one we hold is first, wherever it is listed.
    let decision = decide(&holding("C"), &by_key(&transaction("C", Success), &list));
    assert_eq!(paid_by(&decision), Some("C"));
    assert_eq!(rows(&decision), [(DiscrepancyKind::DuplicateCharge, "B")]);
}

#[test]
fn a_further_success_counts_whatever_its_amount() {
    let list = [transaction("A", Success), with_amount(transaction("B", Success), 1)];
    let decision = decide(&subject(), &listed(&list));
    assert_eq!(paid_by(&decision), Some("A"));
    assert_eq!(rows(&decision), [(DiscrepancyKind::DuplicateCharge, "B")]);
}

#[test]
fn a_paid_payment_is_watched_while_more_may_be_charged() {
    let one = transaction("A", Success);
    assert_eq!(decide(&holding("A"), &by_key(&one, &[])).watch, Watch::No);
    assert_eq!(decide(&holding("A"), &by_key(&one, &[transaction("B", Pending)])).watch, Watch::Full);
    // The answer to our request was never stored: nobody knows how often it was sent.
    assert_eq!(decide(&subject(), &listed(&[one])).watch, Watch::Full);
}

#[test]
fn f43_a_key_of_another_payment_pays_nothing() {
    let reused = Subject { keys_owned_elsewhere: BTreeSet::from([key("A")]), ..subject() };
    let list = listed(&[transaction("A", Success)]);
    let decision = decide(&reused, &list);
    assert_eq!(waits(&decision), Some(Waiting::KeyOwnedElsewhere));
    assert_eq!(rows(&decision), [(DiscrepancyKind::KeyReused, "A")]);
    assert_eq!(failed(&decide(&aged(reused.clone()), &list)), Some((FORCED_MESSAGE, true)));
    // Resolved by the list when that has another one.
    let list = listed(&[transaction("A", Success), transaction("B", Success)]);
    assert_eq!(paid_by(&decide(&reused, &list)), Some("B"));
}

#[test]
fn f48_an_end_stays_and_contradictions_are_written_down() {
    let was_failed =
        decide(&ended(PaymentStatus::Failed, Some("A")), &by_key(&transaction("A", Success), &[]));
    assert_eq!(was_failed.verdict, Verdict::Ended);
    assert_eq!(rows(&was_failed), [(DiscrepancyKind::LateSuccess, "A")]);
    let was_paid = decide(&ended(PaymentStatus::Paid, Some("A")), &by_key(&transaction("A", Failed), &[]));
    assert_eq!(was_paid.verdict, Verdict::Ended);
    assert_eq!(rows(&was_paid), [(DiscrepancyKind::Conflict, "A")]);
}

#[test]
fn f49_a_wrong_amount_never_pays() {
    for amount in [4999, 5001, 0, -5000] {
        let decision = decide(&subject(), &listed(&[with_amount(transaction("A", Success), amount)]));
        assert_eq!(failed(&decision), Some((settlement::AMOUNT_MISMATCH_MESSAGE, false)), "{amount}");
        assert_eq!(rows(&decision), [(DiscrepancyKind::AmountMismatch, "A")]);
        assert_eq!(decision.discrepancies[0].amount, Some(Money::new(amount).unwrap()));
        assert_eq!(decision.watch, Watch::Full);
    }
}

#[test]
fn a_wrong_amount_waits_for_a_pending_right_one() {
    let list = [with_amount(transaction("A", Success), 1), transaction("B", Pending)];
    let decision = decide(&subject(), &listed(&list));
    assert_eq!(waits(&decision), Some(Waiting::TransactionPending));
    assert_eq!(rows(&decision), [(DiscrepancyKind::AmountMismatch, "A")]);
    let list = [list[0].clone(), transaction("B", Success)];
    let decision = decide(&subject(), &listed(&list));
    assert_eq!(paid_by(&decision), Some("B"));
    // The same charge, seen as something else: still one row.
    let fact = |decision: &Decision| decision.discrepancies[0].fact();
    let before = decide(&subject(), &listed(&list[..1]));
    assert_eq!(fact(&decision), fact(&before));
}

#[test]
fn f50_a_callbacks_foreign_key_says_nothing() {
    let foreign = of_another_order(transaction("X", Success));
    let findings = Findings { hinted: vec![foreign], ..listed(&[transaction("A", Pending)]) };
    let decision = decide(&subject(), &findings);
    assert_eq!(waits(&decision), Some(Waiting::TransactionPending));
    assert!(decision.discrepancies.is_empty());
    for status in [PaymentStatus::Paid, PaymentStatus::Failed] {
        assert!(decide(&ended(status, Some("A")), &findings).discrepancies.is_empty());
    }
}

/// A gateway that lost its memory, or a database that was made anew, can have a transaction by our order's name from
/// before the order was placed: it is somebody else's charge, whatever it says.
#[test]
fn a_transaction_older_than_the_payment_is_never_ours() {
    let made = |transaction, before| Transaction { made_before: Some(before), ..transaction };
    let older = |status| made(transaction("A", status), PLACED);
    let newer = made(transaction("A", Success), PLACED + time::Duration::microseconds(1));
    assert_eq!(paid_by(&decide(&subject(), &listed(&[newer]))), Some("A"));

    let decision = decide(&subject(), &listed(&[older(Success)]));
    assert_eq!(failed(&decision), Some((settlement::ORDER_MISMATCH_MESSAGE, false)));
    assert_eq!(rows(&decision), [(DiscrepancyKind::OrderMismatch, "A")]);
    let decision = decide(&subject(), &listed(&[older(Success), transaction("B", Success)]));
    assert_eq!(paid_by(&decision), Some("B"));
    assert_eq!(rows(&decision), [(DiscrepancyKind::OrderMismatch, "A")]);
    // Neither waited for, nor adopted, nor believed to have been declined.
    assert_eq!(waits(&decide(&subject(), &listed(&[older(Pending)]))), Some(Waiting::KeyContradicted));
    assert_eq!(waits(&decide(&subject(), &listed(&[older(Failed)]))), Some(Waiting::KeyContradicted));
    // Named by a callback it says nothing; by the key that we hold it is a contradiction.
    let hinted = Findings { hinted: vec![older(Success)], ..listed(&[]) };
    let decision = decide(&subject(), &hinted);
    assert_eq!((waits(&decision), rows(&decision)), (Some(Waiting::NotFoundYet), vec![]));
    let decision = decide(&holding("A"), &by_key(&older(Success), &[]));
    assert_eq!(waits(&decision), Some(Waiting::KeyContradicted));
    assert_eq!(rows(&decision), [(DiscrepancyKind::PgLost, "A")]);
}

/// The gateway's list may be behind its own callback.
#[test]
fn a_callbacks_own_transaction_counts_though_it_is_not_listed() {
    let findings = Findings { hinted: vec![transaction("A", Success)], ..listed(&[]) };
    assert_eq!(paid_by(&decide(&subject(), &findings)), Some("A"));
    let decision = decide(&ended(PaymentStatus::Failed, None), &findings);
    assert_eq!(rows(&decision), [(DiscrepancyKind::LateSuccess, "A")]);
}

#[test]
fn f54_f76_a_late_success_goes_to_the_ledger_and_changes_nothing() {
    let decision = decide(&ended(PaymentStatus::Failed, None), &listed(&[transaction("A", Success)]));
    assert_eq!((decision.verdict.clone(), decision.watch), (Verdict::Ended, Watch::No));
    assert_eq!(rows(&decision), [(DiscrepancyKind::LateSuccess, "A")]);
    assert_eq!(decision.discrepancies[0].amount, Some(Money::new(5000).unwrap()));
}

#[test]
fn f58_nothing_is_decided_without_the_gateways_list() {
    let not_asked = Findings::default();
    assert_eq!(waits(&decide(&aged(subject()), &not_asked)), Some(Waiting::ListUnknown));
    let only_by_key =
        Findings { by_key: Some(KeyAnswer::Found(transaction("A", Failed))), ..Findings::default() };
    assert_eq!(waits(&decide(&aged(holding("A")), &only_by_key)), Some(Waiting::ListUnknown));
    let only_lost = Findings { by_key: Some(KeyAnswer::NotFound(key("A"))), ..Findings::default() };
    assert_eq!(waits(&decide(&aged(holding("A")), &only_lost)), Some(Waiting::ListUnknown));
    // But one SUCCESS is all that PAID needs.
    let approved =
        Findings { by_key: Some(KeyAnswer::Found(transaction("A", Success))), ..Findings::default() };
    assert_eq!(paid_by(&decide(&holding("A"), &approved)), Some("A"));
}

#[test]
fn f60_a_lost_key_waits_with_a_row_and_is_forced_after_five_minutes() {
    let decision = decide(&holding("A"), &lost("A", &[]));
    assert_eq!(waits(&decision), Some(Waiting::KeyContradicted));
    assert_eq!(rows(&decision), [(DiscrepancyKind::PgLost, "A")]);
    let counted = Subject { not_found_count: 9, ..holding("A") };
    assert_eq!(waits(&decide(&counted, &lost("A", &[]))), Some(Waiting::KeyContradicted));
    let decision = decide(&aged(holding("A")), &lost("A", &[]));
    assert_eq!(failed(&decision), Some((FORCED_MESSAGE, true)));
    assert_eq!(decision.watch, Watch::Full);
}

#[test]
fn f60_a_lost_key_is_written_down_though_another_transaction_pays() {
    let decision = decide(&holding("A"), &lost("A", &[transaction("B", Success)]));
    assert_eq!(paid_by(&decision), Some("B"));
    assert_eq!(rows(&decision), [(DiscrepancyKind::PgLost, "A")]);
    assert_eq!(decision.watch, Watch::Full);
}

#[test]
fn f61_a_key_that_now_belongs_to_another_order_is_lost() {
    let overwritten = of_another_order(transaction("A", Success));
    let findings = Findings { by_key: Some(KeyAnswer::Found(overwritten)), ..listed(&[]) };
    let decision = decide(&holding("A"), &findings);
    assert_eq!(waits(&decision), Some(Waiting::KeyContradicted));
    assert_eq!(rows(&decision), [(DiscrepancyKind::PgLost, "A")]);
    assert_eq!(failed(&decide(&aged(holding("A")), &findings)), Some((FORCED_MESSAGE, true)));
}

#[test]
fn f62_the_interlock_stops_every_not_found_verdict_and_no_other() {
    let stopped = SettlementPolicy { not_found_suspended: true, ..RULES };
    let decide = |subject: &Subject, findings: &Findings| settlement::decide(subject, findings, &stopped);
    let old = aged(Subject { not_found_count: 9, transaction_seen: true, ..subject() });
    for subject in [aged(subject()), old] {
        assert_eq!(waits(&decide(&subject, &listed(&[]))), Some(Waiting::NotFoundSuspended));
    }
    let decision = decide(&aged(holding("A")), &lost("A", &[]));
    assert_eq!(waits(&decision), Some(Waiting::NotFoundSuspended));
    assert_eq!(rows(&decision), [(DiscrepancyKind::PgLost, "A")]);
    assert_eq!(paid_by(&decide(&subject(), &listed(&[transaction("A", Success)]))), Some("A"));
    assert!(failed(&decide(&subject(), &listed(&[transaction("A", Failed)]))).is_some());
    assert!(failed(&decide(&aged(subject()), &listed(&[transaction("A", Pending)]))).is_some());
}

#[test]
fn f64_it_fails_only_when_all_are_failed() {
    let some = [transaction("A", Failed), transaction("B", Pending)];
    assert_eq!(waits(&decide(&subject(), &listed(&some))), Some(Waiting::TransactionPending));
    let reason = |text: &str| Transaction { reason: Some(text.into()), ..transaction("A", Failed) };
    let all = decide(&holding("A"), &by_key(&reason("한도초과입니다."), &[transaction("B", Failed)]));
    assert_eq!(failed(&all), Some(("한도초과입니다.", false)));
    assert_eq!(all.watch, Watch::Once);
    for empty in ["", "  "] {
        let silent = decide(&holding("A"), &by_key(&reason(empty), &[]));
        assert_eq!(failed(&silent), Some((DECLINED_MESSAGE, false)));
    }
    let endless = decide(&holding("A"), &by_key(&reason(&"가".repeat(1000)), &[]));
    assert_eq!(failed(&endless).map(|(text, _)| text.chars().count()), Some(500));
}

/// "whose transactions the PG has not all called FAILED": one may not be listed yet, or be listed under another order.
#[test]
fn a_declined_payment_is_watched_fully_unless_all_of_it_is_known() {
    assert_eq!(decide(&subject(), &listed(&[transaction("A", Failed)])).watch, Watch::Full);
    let foreign = of_another_order(transaction("B", Pending));
    assert_eq!(decide(&holding("A"), &by_key(&transaction("A", Failed), &[foreign])).watch, Watch::Full);
}

#[test]
fn f65_pending_for_five_minutes_is_forced_and_watched() {
    let list = listed(&[transaction("A", Pending)]);
    let almost = Subject { age: Duration::from_millis(299_999), ..aged(subject()) };
    assert_eq!(waits(&decide(&almost, &list)), Some(Waiting::TransactionPending));
    let decision = decide(&aged(subject()), &list);
    assert_eq!(failed(&decision), Some(("결제 시간 초과", true)));
    assert_eq!(decision.watch, Watch::Full);
}

#[test]
fn f66_what_never_settles_is_named_at_the_last_look() {
    let list = listed(&[transaction("A", Pending)]);
    let before = decide(&ended(PaymentStatus::Failed, None), &list);
    assert_eq!((rows(&before), before.watch), (vec![], Watch::Full));
    let last = decide(&Subject { last_look: true, ..ended(PaymentStatus::Failed, None) }, &list);
    assert_eq!((rows(&last), last.watch), (vec![(DiscrepancyKind::NeverSettled, "A")], Watch::No));
}

#[test]
fn f75_a_stale_read_changes_no_end() {
    let paid = decide(&ended(PaymentStatus::Paid, Some("A")), &by_key(&transaction("A", Pending), &[]));
    assert_eq!((paid.verdict.clone(), rows(&paid)), (Verdict::Ended, vec![]));
}

/// A second attempt may be on its way while the first one's transaction is declined: failing now would let it charge the
/// card of a cancelled order.
#[test]
fn nothing_fails_while_our_own_request_may_still_leave() {
    let sending = Subject { since_send_deadline: None, age: Duration::from_secs(2), ..subject() };
    for transactions in [
        vec![transaction("A", Failed)],
        vec![with_amount(transaction("A", Success), 1)],
        vec![of_another_order(transaction("A", Success))],
        vec![transaction("A", Pending)],
        vec![],
    ] {
        let decision = decide(&sending, &listed(&transactions));
        let expected = Verdict::Wait { why: Waiting::StillSending, adopt: None };
        assert_eq!(decision.verdict, expected, "{transactions:?}");
    }
    // F45: PAID needs not wait; and with the gateway's answer stored nothing is on its way.
    assert_eq!(paid_by(&decide(&sending, &listed(&[transaction("A", Success)]))), Some("A"));
    let answered = Subject { key: Some(key("A")), ..sending };
    assert!(failed(&decide(&answered, &by_key(&transaction("A", Failed), &[]))).is_some());
}

/// The key came while the gateway was asked: what it said is older than the payment.
#[test]
fn findings_older_than_the_key_fail_nothing() {
    let old = transaction("A", Failed);
    let asked_before_any_key = listed(std::slice::from_ref(&old));
    assert_eq!(waits(&decide(&holding("B"), &asked_before_any_key)), Some(Waiting::ListUnknown));
    let asked_about_another_key = by_key(&old, &[]);
    assert_eq!(waits(&decide(&holding("B"), &asked_about_another_key)), Some(Waiting::ListUnknown));
    let another_key_was_lost = lost("A", &[]);
    let decision = decide(&holding("B"), &another_key_was_lost);
    assert_eq!((waits(&decision), rows(&decision)), (Some(Waiting::ListUnknown), vec![]));
    assert_eq!(paid_by(&decide(&holding("B"), &listed(&[transaction("A", Success)]))), Some("A"));
}

#[test]
fn a_pending_transaction_gives_its_key_to_a_payment_without_one() {
    let adopted = |subject: &Subject, transactions: &[Transaction]| match decide(
        subject,
        &listed(transactions),
    )
    .verdict
    {
        Verdict::Wait { adopt, .. } => adopt.map(|key| key.as_str().to_owned()),
        _ => None,
    };
    let pending = transaction("B", Pending);
    assert_eq!(adopted(&subject(), std::slice::from_ref(&pending)), Some("B".into()));
    assert_eq!(adopted(&subject(), &[with_amount(pending.clone(), 1)]), None);
    let owned = Subject { keys_owned_elsewhere: BTreeSet::from([key("B")]), ..subject() };
    assert_eq!(adopted(&owned, std::slice::from_ref(&pending)), None);
    let list = [transaction("A", Pending), pending];
    let held = decide(&holding("A"), &by_key(&list[0], &list[1..]));
    assert_eq!(held.verdict, Verdict::Wait { why: Waiting::TransactionPending, adopt: None });
}

#[test]
fn no_evidence_bears_more_than_its_column() {
    let endless = GatewayOrderRef::from_gateway("9".repeat(10_000));
    let foreign = Transaction { order_ref: endless, ..transaction("A", Success) };
    let decision = decide(&subject(), &listed(&[foreign]));
    assert_eq!(rows(&decision), [(DiscrepancyKind::OrderMismatch, "A")]);
    assert!(decision.discrepancies[0].evidence.chars().count() <= 500);
}

#[test]
fn every_kind_of_row_has_a_name_that_reads_back() {
    for kind in DiscrepancyKind::ALL {
        assert_eq!(DiscrepancyKind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(DiscrepancyKind::parse("OTHER"), None);
}
