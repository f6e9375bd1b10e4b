//! What the generator sends, and how it reads what comes back: HTTP/1.1 on connections that stay open, written and parsed
//! by hand, so that a request costs the machine as little as can be.

use serde::{Deserialize, Serialize};

/// Won; every product that is made here costs this much.
pub(super) const PRICE: i64 = 1_000;
const CARD_NUMBER: &str = "1234-5678-9814-1451";

/// What buyers do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Orders paid by points: two lines, products spread over all
    Point,
    /// Orders paid by card, two lines: the whole life, counted until all have ended
    Card,
    /// Orders paid by points, one line: all of one product
    Hot,
    /// 70 % points, 20 % card, 10 % reads; counted until all have ended
    Mixed,
}

impl Scenario {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Card => "card",
            Self::Hot => "hot",
            Self::Mixed => "mixed",
        }
    }

    /// Whether orders go on after their answer, so that a measurement ends when all have ended.
    pub(super) fn has_a_life(self) -> bool {
        matches!(self, Self::Card | Self::Mixed)
    }
}

/// What there is to buy, and who buys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Goods {
    /// Products and buyers have consecutive ids from these on; there are at least two of each.
    pub(super) first_product: i64,
    pub(super) products: i64,
    pub(super) first_buyer: i64,
    pub(super) buyers: i64,
}

/// One request, as far as its answer is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Points,
    Card,
    Read,
}

impl Kind {
    pub(super) fn expects(self, status: u16) -> bool {
        match self {
            Self::Points => status == 201,
            Self::Card => matches!(status, 201 | 202),
            Self::Read => status == 200,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Points => "order by points",
            Self::Card => "order by card",
            Self::Read => "read",
        }
    }
}

/// SplitMix64: numbers that only have to be spread.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `count` - 1; 0 when there is nothing to choose from.
    fn below(&mut self, count: i64) -> i64 {
        let count = u64::try_from(count).unwrap_or(0).max(1);
        i64::try_from(self.next() % count).unwrap_or(0)
    }
}

/// Makes requests of a scenario, one after the other.
pub(super) struct Maker {
    scenario: Scenario,
    goods: Goods,
    random: Random,
    body: String,
}

impl Maker {
    /// The same seed gives the same requests.
    pub(super) fn new(scenario: Scenario, goods: Goods, seed: u64) -> Self {
        Self { scenario, goods, random: Random(seed), body: String::new() }
    }

    /// The next request, in place of what `request` held.
    pub(super) fn next(&mut self, request: &mut Vec<u8>) -> Kind {
        let buyer = self.goods.first_buyer + self.random.below(self.goods.buyers);
        let kind = match self.scenario {
            Scenario::Point | Scenario::Hot => Kind::Points,
            Scenario::Card => Kind::Card,
            Scenario::Mixed => match self.random.below(10) {
                0..7 => Kind::Points,
                7 | 8 => Kind::Card,
                _ => Kind::Read,
            },
        };
        self.body.clear();
        match kind {
            Kind::Read => {}
            Kind::Points => {
                let lines = self.lines();
                self.body.push_str(&format!(r#","usePoint":{}}}"#, lines * PRICE));
            }
            Kind::Card => {
                self.lines();
                self.body.push_str(&format!(r#","cardType":"SAMSUNG","cardNo":"{CARD_NUMBER}"}}"#));
            }
        }
        request.clear();
        let text = match kind {
            Kind::Read => {
                let path = if self.random.below(2) == 0 { "orders" } else { "products" };
                format!("GET /api/v1/{path}?limit=20 HTTP/1.1\r\nHost: shop\r\nX-USER-ID: {buyer}\r\n\r\n")
            }
            Kind::Points | Kind::Card => format!(
                "POST /api/v1/orders HTTP/1.1\r\nHost: shop\r\nX-USER-ID: {buyer}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                self.body.len(),
                self.body
            ),
        };
        request.extend_from_slice(text.as_bytes());
        kind
    }

    /// Begins the body with an order's lines; returns how many they are.
    fn lines(&mut self) -> i64 {
        let Goods { first_product, products, .. } = self.goods;
        if self.scenario == Scenario::Hot {
            self.body.push_str(&format!(r#"{{"items":[{{"productId":{first_product},"quantity":1}}]"#));
            return 1;
        }
        let one = self.random.below(products);
        let other = (one + 1 + self.random.below(products - 1)) % products;
        self.body.push_str(&format!(
            r#"{{"items":[{{"productId":{},"quantity":1}},{{"productId":{},"quantity":1}}]"#,
            first_product + one,
            first_product + other
        ));
        2
    }
}

/// An answer that has come as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where its body begins and ends in what was read.
    pub(super) body: std::ops::Range<usize>,
}

/// Reads the answer that `bytes` begin with. None: more has to come. An error: the generator does not understand it.
pub(super) fn answer(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head =
        bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or("a head that is no text")?;
    let status = head.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.filter(|_| head.starts_with("HTTP/1.1 ")).ok_or("no answer of HTTP/1.1")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or("an answer without a length")?;
    let body = end + 4..end + 4 + length;
    Ok((bytes.len() >= body.end).then_some(Answer { status, body }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn goods() -> Goods {
        Goods { first_product: 11, products: 3, first_buyer: 101, buyers: 5 }
    }

    fn requests(scenario: Scenario, count: usize) -> Vec<(Kind, String)> {
        let mut maker = Maker::new(scenario, goods(), 7);
        let mut request = Vec::new();
        let mut next = || {
            let kind = maker.next(&mut request);
            (kind, String::from_utf8(request.clone()).unwrap())
        };
        (0..count).map(|_| next()).collect()
    }

    fn body(request: &str) -> serde_json::Value {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn an_order_has_two_different_products_that_exist_and_costs_what_its_lines_do() {
        let mut seen = BTreeSet::new();
        for (kind, request) in requests(Scenario::Point, 100) {
            assert_eq!(kind, Kind::Points);
            let body = body(&request);
            let products = [0, 1].map(|line| body["items"][line]["productId"].as_i64().unwrap());
            assert!(products.iter().all(|id| (11..14).contains(id)) && products[0] != products[1], "{body}");
            assert_eq!(body["usePoint"], 2 * PRICE);
            seen.extend(products);
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn hot_orders_are_of_one_product_and_card_orders_pay_by_card() {
        for (_, request) in requests(Scenario::Hot, 20) {
            let body = body(&request);
            assert_eq!((&body["items"][0]["productId"], &body["usePoint"]), (&11.into(), &PRICE.into()));
            assert!(body["items"][1].is_null());
        }
        let (kind, request) = requests(Scenario::Card, 1).remove(0);
        assert_eq!((kind, body(&request)["cardType"].as_str()), (Kind::Card, Some("SAMSUNG")));
    }

    #[test]
    fn mixed_has_the_promised_shares() {
        let requests = requests(Scenario::Mixed, 10_000);
        let share = |wanted| requests.iter().filter(|(kind, _)| *kind == wanted).count();
        assert!((6_800..7_200).contains(&share(Kind::Points)), "{}", share(Kind::Points));
        assert!((1_850..2_150).contains(&share(Kind::Card)), "{}", share(Kind::Card));
        assert!((850..1_150).contains(&share(Kind::Read)), "{}", share(Kind::Read));
    }

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-length: 3\r\ndate: x\r\n\r\n{ }HTTP";
        let whole = text.len() - 4;
        assert_eq!(answer(&text[..whole - 1]), Ok(None));
        assert_eq!(answer(&text[..20]), Ok(None));
        let read = answer(&text[..whole]).unwrap().unwrap();
        assert_eq!((read.status, &text[read.body.clone()]), (202, b"{ }".as_slice()));
        assert_eq!(answer(text).unwrap(), Some(read));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(answer(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(answer(b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
