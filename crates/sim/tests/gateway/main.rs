//! The contract of the gateway (spec 02): the same cases over the simulation's model and over `pg-simulator` behind the real
//! HTTP client, so that what the simulation proves is proven against the gateway that the client meets.
//!
//! The border is [`adapters_pg::transport::Transport`], one classified attempt: it is where the simulation puts its model. What
//! can't be said there (a missing header, a card number that is none, a body that can't be read) is of the wire alone and
//! stands in `pg-simulator/tests/it/protocol.rs`.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod model;
#[cfg(test)]
mod server;

/// One test per case and side.
#[cfg(test)]
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod over_the_model {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                crate::cases::$case::<crate::model::Model>().await;
            })+
        }
        mod over_the_server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::cases::$case::<crate::server::Server>().await;
            })+
        }
    };
}

#[cfg(test)]
contract! {
    what_is_accepted_is_pending_under_a_key_of_its_own,
    the_rules_are_checked_in_their_order,
    one_order_requested_twice_is_charged_twice,
    every_transaction_of_an_order_is_listed,
    what_nobody_requested_is_not_found,
    a_key_is_found_whatever_its_case_and_is_not_the_one_asked_for,
    another_merchant_sees_nothing,
    a_transaction_is_decided_once_and_told_once,
    out_of_the_box_the_documented_shares_come_true,
    a_request_meets_every_fault_as_the_client_classifies_it,
    a_look_up_meets_every_fault_as_the_client_classifies_it,
    an_answer_may_bear_the_end_already,
    a_wrong_amount_is_seen_by_key,
    a_key_given_twice_forgets_the_first,
    a_wiped_gateway_finds_nothing,
    a_callback_may_be_lost_or_repeated,
}
