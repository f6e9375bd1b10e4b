//! Thirty orders of every kind, the table of what became of them, and whether that was allowed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::ALL_ENDED_LIMIT;
use super::cases::{CASES, Card, Case, Coupon, Expected, FIXED_DISCOUNT, PRODUCTS, RATE_PERCENT};
use super::shop::{Order, Shop};
use crate::process;

/// A number that every card company's test cards look like; it belongs to nobody.
const CARD_NUMBER: &str = "1234-5678-9814-1451";
const POLL: Duration = Duration::from_millis(500);
/// The promised 5 s, and half a second for the way there and back on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_millis(5_500);
const OVERLOADED_ATTEMPTS: u32 = 5;

/// What the demo made for itself before it orders.
struct Shelf {
    products: Vec<i64>,
    fixed: i64,
    rate: i64,
}

/// One order: the case, its buyer, and what was seen of it.
struct Run {
    case: Case,
    buyer: i64,
    body: Value,
    placed: Option<Placed>,
    order: Option<Order>,
    took: Option<Duration>,
    problems: Vec<String>,
}

struct Placed {
    at: Instant,
    answered_after: Duration,
    status: u16,
    reason: String,
}

pub(super) fn run(shop: &Shop) -> Result<()> {
    let shelf = Shelf {
        products: PRODUCTS
            .iter()
            .map(|(name, price, stock)| shop.make_product(name, *price, *stock))
            .collect::<Result<_>>()?,
        fixed: shop.make_coupon("demo fixed", "FIXED", FIXED_DISCOUNT)?,
        rate: shop.make_coupon("demo rate", "RATE", RATE_PERCENT)?,
    };
    let mut runs = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        runs.push(prepare(shop, &shelf, index, *case)?);
    }
    println!("placing {} orders", runs.len());
    std::thread::scope(|scope| {
        for run in &mut runs {
            scope.spawn(|| place(shop, run));
        }
    });
    follow(shop, &mut runs)?;
    for run in &mut runs {
        if let Err(error) = judge(shop, run) {
            run.problems.push(format!("{error:#}"));
        }
    }
    print_table(&runs);
    let wrong = runs.iter().filter(|run| !run.problems.is_empty()).count();
    if wrong > 0 {
        bail!("{wrong} of {} orders did not end as they may", runs.len());
    }
    println!("\nall {} orders ended as they may", runs.len());
    Ok(())
}

/// Gives the buyer what the case says he owns, and writes his order.
fn prepare(shop: &Shop, shelf: &Shelf, index: usize, case: Case) -> Result<Run> {
    let buyer = shop.buyer(2 * index)?;
    if case.points_owned > 0 {
        shop.give_points(buyer, case.points_owned)?;
    }
    let product = |index: usize| shelf.products.get(index).copied().unwrap_or(9_007_199_254_740_000);
    let issued = match case.coupon {
        Coupon::None => None,
        Coupon::Fixed => Some(shop.issue_coupon(buyer, shelf.fixed)?),
        Coupon::Rate => Some(shop.issue_coupon(buyer, shelf.rate)?),
        Coupon::Foreign => Some(shop.issue_coupon(shop.buyer(2 * index + 1)?, shelf.fixed)?),
        Coupon::Used => {
            let issued = shop.issue_coupon(buyer, shelf.fixed)?;
            let items = json!([{ "productId": product(2), "quantity": 1 }]);
            let answer = shop.place(buyer, &json!({ "items": items, "issuedCouponId": issued }))?;
            if answer.status != 201 {
                bail!("the order that uses up a coupon answered {}: {}", answer.status, answer.body);
            }
            Some(issued)
        }
    };
    let items: Vec<Value> = case
        .items
        .iter()
        .map(|(index, quantity)| json!({ "productId": product(*index), "quantity": quantity }))
        .collect();
    let mut body = json!({ "items": items });
    if let Some(object) = body.as_object_mut() {
        let card = match case.card {
            Card::None => None,
            Card::Good(kind) => Some((kind, CARD_NUMBER)),
            Card::BadNumber => Some(("SAMSUNG", "1234-5678-9814-145")),
            Card::BadType => Some(("ACORN", CARD_NUMBER)),
        };
        if let Some((kind, number)) = card {
            object.insert("cardType".to_owned(), json!(kind));
            object.insert("cardNo".to_owned(), json!(number));
        }
        if case.points_used > 0 {
            object.insert("usePoint".to_owned(), json!(case.points_used));
        }
        if let Some(issued) = issued {
            object.insert("issuedCouponId".to_owned(), json!(issued));
        }
    }
    Ok(Run { case, buyer, body, placed: None, order: None, took: None, problems: Vec::new() })
}

/// Places the order as a well-behaved client does: "nothing was taken, try again" is tried again.
fn place(shop: &Shop, run: &mut Run) {
    for attempt in 1..=OVERLOADED_ATTEMPTS {
        let at = Instant::now();
        let answer = match shop.place(run.buyer, &run.body) {
            Ok(answer) => answer,
            Err(error) => {
                run.problems.push(format!("{error:#}"));
                return;
            }
        };
        if answer.meta("errorCode") == "SERVICE_UNAVAILABLE" && attempt < OVERLOADED_ATTEMPTS {
            std::thread::sleep(Duration::from_secs(1));
            continue;
        }
        let answered_after = at.elapsed();
        let reason =
            [answer.meta("reason"), answer.meta("errorCode")].into_iter().find(|text| !text.is_empty());
        run.placed = Some(Placed {
            at,
            answered_after,
            status: answer.status,
            reason: reason.unwrap_or_default().to_owned(),
        });
        if answered_after > ANSWER_LIMIT {
            run.problems
                .push(format!("answered after {:.1} s, promised are 5", answered_after.as_secs_f64()));
        }
        return;
    }
}

/// Looks at each order until its payment is final.
fn follow(shop: &Shop, runs: &mut [Run]) -> Result<()> {
    let started = Instant::now();
    let mut told = 0;
    loop {
        let mut open = 0;
        for run in runs.iter_mut().filter(|run| run.took.is_none()) {
            let Some(placed) = &run.placed else { continue };
            let skip = usize::from(run.case.coupon == Coupon::Used);
            // Newest first; the order that used up the coupon is the oldest.
            let orders = shop.orders(run.buyer)?;
            run.order = orders.len().checked_sub(skip + 1).and_then(|at| orders.get(at)).cloned();
            if orders.len() > skip + 1 {
                run.problems.push(format!("{} orders instead of one", orders.len() - skip));
            }
            match &run.order {
                Some(order) if !order.is_final() => open += 1,
                _ if placed.status == 202 => run.took = Some(placed.at.elapsed()),
                _ => run.took = Some(placed.answered_after),
            }
        }
        if open == 0 {
            return Ok(());
        }
        if open != told {
            told = open;
            println!("{:>4} s: {open} orders have not ended yet", started.elapsed().as_secs());
        }
        if process::interrupted() {
            bail!("interrupted");
        }
        if started.elapsed() > ALL_ENDED_LIMIT {
            for run in runs.iter_mut().filter(|run| run.took.is_none() && run.placed.is_some()) {
                run.problems.push(format!("not ended after {} minutes", ALL_ENDED_LIMIT.as_secs() / 60));
            }
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// Whether this end is allowed for this case, and whether the buyer's points and coupon agree with it.
fn judge(shop: &Shop, run: &mut Run) -> Result<()> {
    let Some(placed) = &run.placed else { return Ok(()) };
    let found = verdict(&run.case, placed.status, run.order.as_ref());
    run.problems.extend(found);

    let paid = run.order.as_ref().is_some_and(|order| order.payment_status == "PAID");
    let points = run.case.points_owned - if paid { run.case.points_used } else { 0 };
    if run.case.points_owned > 0 && shop.points(run.buyer)? != points {
        run.problems.push(format!("points: {} instead of {points}", shop.points(run.buyer)?));
    }
    let coupon = match (run.case.coupon, paid) {
        (Coupon::Fixed | Coupon::Rate, false) => Some("AVAILABLE"),
        (Coupon::Fixed | Coupon::Rate, true) | (Coupon::Used, _) => Some("USED"),
        (Coupon::None | Coupon::Foreign, _) => None,
    };
    if let Some(expected) = coupon {
        let found = shop.coupon_status(run.buyer)?;
        if found != expected {
            run.problems.push(format!("coupon: {found} instead of {expected}"));
        }
    }
    Ok(())
}

/// What is wrong with the answer and the order's end, judged by themselves.
fn verdict(case: &Case, status: u16, order: Option<&Order>) -> Vec<String> {
    let mut problems = Vec::new();
    let ended = order.map(|order| (order.status.as_str(), order.payment_status.as_str()));
    let allowed = match case.expected {
        Expected::PaidAtOnce => status == 201 && ended == Some(("PAID", "PAID")),
        Expected::ByCard => match status {
            202 => matches!(ended, Some(("PAID", "PAID") | ("CANCELLED", "FAILED"))),
            402 | 503 => ended == Some(("CANCELLED", "FAILED")),
            _ => false,
        },
        Expected::Refused(statuses) => statuses.contains(&status) && ended.is_none(),
    };
    if !allowed {
        problems.push(format!("answered {status} and ended {ended:?}"));
    }
    if let Some(order) = order {
        let expected = case.amounts();
        let found = (order.total, order.coupon_discount, order.used_point, order.paid_amount);
        if found != (expected.total, expected.coupon_discount, expected.used_point, expected.paid_amount) {
            problems.push(format!("amounts {found:?} instead of {expected:?}"));
        }
    }
    problems
}

fn print_table(runs: &[Run]) {
    println!(
        "\n{:>2} {:<22} {:<12} {:>4} {:<20} {:>8} {:<9} {:<7} {:>7} {:>7} {:>7} {:>7} {:>6}",
        "#",
        "kind",
        "expected",
        "HTTP",
        "reason",
        "order",
        "status",
        "payment",
        "total",
        "coupon",
        "points",
        "card",
        "s"
    );
    for (index, run) in runs.iter().enumerate() {
        let expected = match run.case.expected {
            Expected::PaidAtOnce => "paid at once",
            Expected::ByCard => "by card",
            Expected::Refused(_) => "refused",
        };
        let (status, reason) =
            run.placed.as_ref().map_or((0, "no answer"), |placed| (placed.status, placed.reason.as_str()));
        print!("{:>2} {:<22} {expected:<12} {status:>4} {reason:<20}", index + 1, run.case.kind);
        match &run.order {
            Some(order) => print!(
                " {:>8} {:<9} {:<7} {:>7} {:>7} {:>7} {:>7}",
                order.id,
                order.status,
                order.payment_status,
                order.total,
                order.coupon_discount,
                order.used_point,
                order.paid_amount
            ),
            None => print!(" {:>8} {:<9} {:<7} {:>7} {:>7} {:>7} {:>7}", "-", "-", "-", "-", "-", "-", "-"),
        }
        println!(" {:>6.1}", run.took.unwrap_or_default().as_secs_f64());
        for problem in &run.problems {
            println!("   WRONG: {problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(case: &Case, status: &str, payment_status: &str) -> Order {
        let amounts = case.amounts();
        Order {
            id: 1,
            status: status.to_owned(),
            payment_status: payment_status.to_owned(),
            total: amounts.total,
            coupon_discount: amounts.coupon_discount,
            used_point: amounts.used_point,
            paid_amount: amounts.paid_amount,
            has_key: false,
        }
    }

    #[test]
    fn a_card_order_may_end_paid_or_cancelled_and_nowhere_else() {
        let case = CASES.iter().find(|case| case.expected == Expected::ByCard).unwrap();
        assert_eq!(verdict(case, 202, Some(&ended(case, "PAID", "PAID"))), Vec::<String>::new());
        assert_eq!(verdict(case, 202, Some(&ended(case, "CANCELLED", "FAILED"))), Vec::<String>::new());
        for status in [402, 503] {
            assert_eq!(
                verdict(case, status, Some(&ended(case, "CANCELLED", "FAILED"))),
                Vec::<String>::new()
            );
        }
        for (status, order) in [
            (202, ended(case, "PLACED", "IN_PROGRESS")),
            (202, ended(case, "PAID", "FAILED")),
            (503, ended(case, "PAID", "PAID")),
            (500, ended(case, "CANCELLED", "FAILED")),
        ] {
            assert_eq!(verdict(case, status, Some(&order)).len(), 1, "{status} {order:?}");
        }
        assert_eq!(verdict(case, 202, None).len(), 1);
    }

    #[test]
    fn a_refused_order_must_not_exist() {
        let case = CASES.iter().find(|case| matches!(case.expected, Expected::Refused(_))).unwrap();
        assert_eq!(verdict(case, 400, None), Vec::<String>::new());
        assert_eq!(verdict(case, 500, None).len(), 1);
        assert_eq!(verdict(case, 400, Some(&ended(case, "CANCELLED", "FAILED"))).len(), 1);
    }

    #[test]
    fn wrong_amounts_are_seen() {
        let case = CASES.first().unwrap();
        let order = Order { paid_amount: 1, ..ended(case, "PAID", "PAID") };
        assert_eq!(verdict(case, 202, Some(&order)).len(), 1);
    }
}
