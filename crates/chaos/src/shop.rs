//! What there is to buy, and what an order looks like.

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::canary::CARDS;
use crate::world::World;

const FIRST_USER: i64 = 1_000;
const PRICES: [i64; 8] = [9_900, 12_900, 15_505, 18_900, 24_000, 31_900, 45_000, 129_000];

pub(crate) struct Shop {
    /// The last one is nearly sold out.
    products: Vec<i64>,
    users: i64,
    /// Two for each user.
    coupons: Vec<(i64, i64)>,
}

impl Shop {
    pub(crate) async fn stock(world: &World, users: i64) -> Result<Self> {
        let ops = world.ops(0)?;
        let api = world.api(0)?;
        let mut products = Vec::new();
        for (index, price) in PRICES.iter().enumerate() {
            let stock = if index + 1 == PRICES.len() { 40 } else { 1_000_000 };
            let body = json!({ "name": format!("chaos {index}"), "price": price, "stock": stock });
            let answer = world.http.post(&format!("{ops}/admin/products"), None, &body).await?;
            products.push(answer.number("/data/productId").context("no product was made")?);
        }
        let mut kinds = Vec::new();
        for (kind, value) in [("FIXED", 5_000), ("RATE", 15)] {
            let body =
                json!({ "name": format!("chaos {kind}"), "discountType": kind, "discountValue": value });
            let answer = world.http.post(&format!("{ops}/admin/coupons"), None, &body).await?;
            kinds.push(answer.number("/data/couponId").context("no coupon was made")?);
        }
        let mut coupons = Vec::new();
        for user in FIRST_USER..FIRST_USER + users {
            let points = json!({ "amount": 1_000_000 });
            world.http.post(&format!("{ops}/admin/users/{user}/points"), None, &points).await?;
            for kind in &kinds {
                let url = format!("{api}/api/v1/issued-coupons/{kind}");
                let answer = world.http.post(&url, Some(user), &json!({})).await?;
                coupons.push((user, answer.number("/data/issuedCouponId").context("no coupon was issued")?));
            }
        }
        Ok(Self { products, users, coupons })
    }

    /// Somebody's order: mostly by card, some with points and coupons, some by points alone.
    pub(crate) fn order(&self, rng: &mut StdRng) -> (i64, Value) {
        let mut user = FIRST_USER + rng.random_range(0..self.users);
        let mut body = json!({});
        let lines = rng.random_range(1..=3);
        // One line in four is for the same product, as in a sale.
        let items: Vec<Value> = (0..lines)
            .filter_map(|_| {
                let product =
                    if rng.random_bool(0.15) { self.products.first() } else { self.products.choose(rng) };
                Some(json!({ "productId": product?, "quantity": rng.random_range(1..=2) }))
            })
            .collect();
        let mut set = |name: &str, value: Value| {
            if let Some(order) = body.as_object_mut() {
                order.insert(name.to_owned(), value);
            }
        };
        let by_points = rng.random_bool(0.1);
        if by_points {
            let product = self.products.first().copied().unwrap_or_default();
            set("items", json!([{ "productId": product, "quantity": 1 }]));
            set("usePoint", json!(PRICES.first().copied().unwrap_or_default()));
            return (user, body);
        }
        set("items", json!(items));
        set("cardType", json!(["SAMSUNG", "KB", "HYUNDAI"].choose(rng)));
        set("cardNo", json!(CARDS.choose(rng)));
        if rng.random_bool(0.25) {
            set("usePoint", json!(rng.random_range(1..=3_000)));
        }
        if rng.random_bool(0.1)
            && let Some((owner, coupon)) = self.coupons.choose(rng)
        {
            user = *owner;
            set("issuedCouponId", json!(coupon));
        }
        (user, body)
    }
}
