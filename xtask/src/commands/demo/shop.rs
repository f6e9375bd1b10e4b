//! The calls of a buyer and of an operator, as far as demo and measurements need them.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::http::{Answer, Http};

/// Ids of demo buyers lie above this, away from the sample users, and below 2^53.
const FIRST_BUYER: i64 = 1_000_000_000;

pub(crate) struct Shop {
    http: Http,
    api: String,
    ops: String,
    first_buyer: i64,
}

/// An order as far as the demo looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) status: String,
    pub(crate) payment_status: String,
    pub(crate) total: i64,
    pub(crate) coupon_discount: i64,
    pub(crate) used_point: i64,
    pub(crate) paid_amount: i64,
    pub(crate) has_key: bool,
}

impl Order {
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.payment_status.as_str(), "PAID" | "FAILED")
    }

    /// From the JSON of the contract.
    pub(crate) fn read(order: &Value) -> Result<Self> {
        let number = |pointer: &str| {
            order
                .pointer(pointer)
                .and_then(Value::as_i64)
                .with_context(|| format!("the order has no {pointer}: {order}"))
        };
        let text = |pointer: &str| {
            let value = order.pointer(pointer).and_then(Value::as_str);
            value.map(str::to_owned).with_context(|| format!("the order has no {pointer}: {order}"))
        };
        Ok(Self {
            id: number("/orderId")?,
            status: text("/status")?,
            payment_status: text("/payment/status")?,
            total: number("/payment/totalAmount")?,
            coupon_discount: number("/payment/couponDiscount")?,
            used_point: number("/payment/usedPoint")?,
            paid_amount: number("/payment/paidAmount")?,
            has_key: order.pointer("/payment/externalPaymentKey").is_some_and(Value::is_string),
        })
    }
}

impl Shop {
    pub(crate) fn new(api: &str, ops: &str) -> Self {
        let seconds =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_secs());
        // A block of a hundred thousand buyers for every second: two runs never share one.
        let first_buyer = FIRST_BUYER + i64::try_from(seconds % 1_000_000_000).unwrap_or(0) * 100_000;
        Self { http: Http::new(), api: api.to_owned(), ops: ops.to_owned(), first_buyer }
    }

    pub(crate) fn buyer(&self, index: usize) -> Result<i64> {
        Ok(self.first_buyer + i64::try_from(index)?)
    }

    pub(crate) fn make_product(&self, name: &str, price: i64, stock: i64) -> Result<i64> {
        self.admin("products", &json!({ "name": name, "price": price, "stock": stock }))?.number("/productId")
    }

    pub(crate) fn make_coupon(&self, name: &str, kind: &str, value: i64) -> Result<i64> {
        self.admin("coupons", &json!({ "name": name, "discountType": kind, "discountValue": value }))?
            .number("/couponId")
    }

    pub(crate) fn give_points(&self, user: i64, amount: i64) -> Result<()> {
        self.admin(&format!("users/{user}/points"), &json!({ "amount": amount })).map(|_| ())
    }

    /// Returns the id by which an order names the coupon.
    pub(crate) fn issue_coupon(&self, user: i64, coupon: i64) -> Result<i64> {
        let path = format!("/api/v1/issued-coupons/{coupon}");
        succeeded(self.http.post(&format!("{}{path}", self.api), Some(user), &json!({}))?, &path)?
            .number("/issuedCouponId")
    }

    pub(crate) fn place(&self, user: i64, body: &Value) -> Result<Answer> {
        self.http.post(&format!("{}/api/v1/orders", self.api), Some(user), body)
    }

    pub(crate) fn order(&self, user: i64, id: i64) -> Result<Order> {
        let answer = self.get(user, &format!("/api/v1/orders/{id}"))?;
        Order::read(answer.data("").context("the answer has no data")?)
    }

    /// The newest orders of a buyer.
    pub(crate) fn orders(&self, user: i64) -> Result<Vec<Order>> {
        let answer = self.get(user, "/api/v1/orders")?;
        let list = answer.data("/orders").and_then(Value::as_array).context("the answer has no orders")?;
        list.iter().map(Order::read).collect()
    }

    pub(crate) fn points(&self, user: i64) -> Result<i64> {
        self.get(user, "/api/v1/points")?.number("/balance")
    }

    /// AVAILABLE or USED; of the buyer's only coupon.
    pub(crate) fn coupon_status(&self, user: i64) -> Result<String> {
        let answer = self.get(user, "/api/v1/issued-coupons")?;
        let status = answer.data("/issuedCoupons/0/status").and_then(Value::as_str);
        status.map(str::to_owned).with_context(|| format!("the answer has no coupon: {}", answer.body))
    }

    fn get(&self, user: i64, path: &str) -> Result<Answer> {
        succeeded(self.http.get(&format!("{}{path}", self.api), Some(user))?, path)
    }

    fn admin(&self, path: &str, body: &Value) -> Result<Answer> {
        succeeded(self.http.post(&format!("{}/admin/{path}", self.ops), None, body)?, path)
    }
}

fn succeeded(answer: Answer, what: &str) -> Result<Answer> {
    if !(200..300).contains(&answer.status) {
        bail!("{what} answered {}: {}", answer.status, answer.body);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_of_the_contract_is_read() {
        let order = json!({
            "orderId": 100_001, "userId": 1, "status": "PLACED", "totalAmount": 10_000, "items": [], "placedAt": "",
            "paymentId": 7, "paymentStatus": "IN_PROGRESS",
            "payment": {"paymentId": 7, "status": "IN_PROGRESS", "method": "MIXED", "totalAmount": 10_000,
                "usedPoint": 1_000, "couponDiscount": 2_000, "paidAmount": 7_000, "issuedCouponId": 3,
                "cardType": "KB", "cardNo": "1234-****-****-1451", "externalPaymentKey": "20250816:TR:9577c5"}
        });
        let order = Order::read(&order).unwrap();
        assert_eq!(
            (order.total, order.used_point, order.coupon_discount, order.paid_amount),
            (10_000, 1_000, 2_000, 7_000)
        );
        assert!(order.has_key && !order.is_final());
        assert!(Order::read(&json!({ "orderId": 1 })).unwrap_err().to_string().contains("/status"));
    }
}
