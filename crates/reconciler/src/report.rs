//! What a turn and a sync print.

use application::Synced;
use application::examine::Examined;
use application::reconcile::Turn;
use serde::Serialize;
use std::io::Write as _;

/// A turn's numbers, as `once --json` prints them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TurnJson {
    examined: u64,
    paid: u64,
    failed: u64,
    forced: u64,
    waiting: u64,
    ended: u64,
    unreachable: u64,
    errors: u64,
    parked: u64,
    not_found_suspended: bool,
    complete: bool,
}

/// One line for people.
pub(crate) fn summary(turn: &Turn) -> String {
    let Turn { examined, paid, failed, forced, waiting, ended, unreachable, errors, parked, suspended } =
        turn;
    let suspended = if *suspended { ", \"no such transaction\" not believed" } else { "" };
    format!(
        "turn: examined={examined} paid={paid} failed={failed} (forced={forced}) waiting={waiting} ended={ended} \
         unreachable={unreachable} errors={errors} parked={parked}{suspended}"
    )
}

/// The summary of `once` on stdout.
pub(crate) fn print_turn(turn: &Turn, json: bool) -> anyhow::Result<()> {
    if json { line(&in_json(turn)?) } else { line(&summary(turn)) }
}

fn in_json(turn: &Turn) -> serde_json::Result<String> {
    let Turn { examined, paid, failed, forced, waiting, ended, unreachable, errors, parked, suspended } =
        *turn;
    serde_json::to_string(&TurnJson {
        examined,
        paid,
        failed,
        forced,
        waiting,
        ended,
        unreachable,
        errors,
        parked,
        not_found_suspended: suspended,
        complete: turn.is_complete(),
    })
}

/// What `sync` has come to, on stdout.
pub(crate) fn print_synced(synced: &Synced, json: bool) -> anyhow::Result<()> {
    let payment = &synced.payment.record.payment;
    let examined = match &synced.examined {
        Examined::Settled(_) => "asked",
        Examined::NothingToAsk => "ended before",
        Examined::NotClaimed => "somebody else is asking, or has just asked",
        Examined::Unreachable => "the gateway could not be asked",
        Examined::Failed => "could not be settled; see the log",
        Examined::Parked => "parked after repeated failures; see the ledger",
    };
    if json {
        return line(&serde_json::to_string(&serde_json::json!({
            "paymentId": payment.id().get(),
            "orderId": payment.order_id().get(),
            "status": payment.status().as_str(),
            "externalPaymentKey": payment.key().map(domain::GatewayKey::as_str),
            "examined": examined,
        }))?);
    }
    line(&format!("payment {} is {} ({examined})", payment.id(), payment.status()))
}

fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number another one, so that none can stand in the other's place.
    #[test]
    fn every_number_stands_where_it_belongs() {
        let turn = Turn {
            examined: 1,
            paid: 2,
            failed: 3,
            forced: 4,
            waiting: 5,
            ended: 6,
            unreachable: 7,
            errors: 8,
            parked: 9,
            suspended: true,
        };
        let expected = serde_json::json!({
            "examined": 1, "paid": 2, "failed": 3, "forced": 4, "waiting": 5, "ended": 6, "unreachable": 7, "errors": 8,
            "parked": 9, "notFoundSuspended": true, "complete": false,
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&in_json(&turn).unwrap()).unwrap(), expected);
        let line = "turn: examined=1 paid=2 failed=3 (forced=4) waiting=5 ended=6 unreachable=7 errors=8 parked=9, \
                    \"no such transaction\" not believed";
        assert_eq!(summary(&turn), line);
        let good = in_json(&Turn { examined: 1, paid: 1, ..Turn::default() }).unwrap();
        assert!(good.contains(r#""notFoundSuspended":false,"complete":true"#), "{good}");
    }

    #[test]
    fn a_turn_is_one_line() {
        let turn = Turn { examined: 3, paid: 1, failed: 1, waiting: 1, ..Turn::default() };
        let text = summary(&turn);
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("turn: examined=3 paid=1 failed=1 (forced=0) waiting=1"), "{text}");
        assert!(!text.contains("believed"));
        assert!(summary(&Turn { suspended: true, ..turn }).ends_with("not believed"));
    }
}
