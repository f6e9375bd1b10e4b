//! The contract of the store ports, as named cases over any implementation.
//!
//! Each case gets an empty database of its own. The fake runs them in virtual time and PostgreSQL in real time: no case
//! takes for granted that anything is quick, and none sleeps to wait for something that can be asked for.
//!
//! ```
//! test_support::port_contract!(
//!     #[tokio::test(start_paused = true)]
//!     test_support::contract::fake
//! );
//! ```

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking, as tests do")]

pub mod callbacks;
pub mod claims;
pub mod goods;
pub mod placing;
pub mod reading;
pub mod settling;
pub mod transactions;
mod world;

pub use world::World;

use crate::FakeStore;
use domain::ports::{Queries, Store};
use std::any::Any;
use std::sync::Arc;

/// One implementation of the ports over one empty database.
#[derive(Clone)]
pub struct Ports {
    /// Writing.
    pub store: Arc<dyn Store>,
    /// Reading.
    pub queries: Arc<dyn Queries>,
    /// Whatever must live as long as the case.
    pub guard: Arc<dyn Any + Send + Sync>,
}

/// The fake, empty.
pub async fn fake() -> Ports {
    let fake = FakeStore::new();
    Ports { store: Arc::new(fake.clone()), queries: Arc::new(fake), guard: Arc::new(()) }
}

/// One test per case. Takes the test attribute and an async function without arguments that returns [`Ports`].
#[macro_export]
macro_rules! port_contract {
    ($(#[$attribute:meta])+ $factory:path) => {
        $crate::port_contract!(@cases [$(#[$attribute])+] $factory;
            transactions: a_dropped_transaction_leaves_nothing, a_rolled_back_transaction_leaves_nothing,
                nobody_sees_what_is_not_committed, a_failed_statement_poisons_its_transaction,
                a_transaction_has_one_moment, locks_are_waited_for, a_rollback_frees_its_locks,
                a_drop_frees_its_locks, a_locked_row_is_read_after_the_wait, a_circle_of_waiting_is_broken,
                ids_are_never_given_twice;
            placing: an_order_is_there_as_it_was_placed, unknown_products_are_left_out,
                stock_never_falls_below_zero, stock_comes_back_once, points_come_back_once,
                an_account_that_is_not_there_is_empty, points_are_locked, a_coupon_is_saved_at_its_version,
                a_coupon_race_has_one_winner, a_coupon_comes_back_once, an_order_has_one_payment,
                a_payment_on_a_card_needs_the_card, an_idempotency_key_is_taken_once,
                an_idempotency_key_waits_for_the_one_who_takes_it,
                an_idempotency_key_is_free_after_a_rollback, an_idempotency_key_expires,
                an_idempotency_key_belongs_to_its_buyer, the_first_answer_stays,
                a_key_without_an_answer_is_abandoned_after_the_deadline;
            settling: a_payment_is_saved_at_its_version, a_payment_race_has_one_winner,
                ended_payments_never_change, ended_orders_never_change, a_key_has_one_owner,
                a_replaced_key_is_free, two_take_one_key_at_once, a_card_payment_needs_its_key_to_be_paid,
                an_order_is_saved_at_its_version, unknown_rows_are_none, one_fact_makes_one_row,
                one_fact_at_once_makes_one_row, a_charge_is_one_fact, a_row_is_resolved_once,
                a_failure_keeps_its_message;
            callbacks: a_token_finds_its_payment, a_callback_wakes_its_payment, a_hint_twice_is_one,
                a_wake_up_during_a_claim_counts, hints_stay_until_they_are_looked_up,
                a_callback_unparks_a_payment, a_callback_wakes_an_ended_payment,
                a_wake_up_keeps_the_set_time, a_wake_up_outlives_its_examiner,
                a_hint_during_its_look_up_is_looked_up_again, a_claim_can_end_with_a_wake_up;
            claims: age_makes_a_payment_due, two_claimers_share_nothing, a_claim_takes_its_limit,
                a_turn_examines_nothing_twice, a_moment_to_come_counts_as_now, longest_due_first, a_lease_keeps_others_away, a_lease_expires,
                a_claim_that_was_rolled_back_is_none, a_lost_lease_changes_nothing,
                what_was_learned_is_kept, a_due_time_is_kept, never_is_never, a_parked_payment_is_left_alone,
                parking_needs_the_lease, ended_payments_are_claimed_from_the_watch_list_only,
                a_watch_is_taken_off, a_wish_to_be_watched_is_kept, one_payment_is_claimed_by_id,
                asking_again_is_throttled;
            goods: stock_is_set, a_coupon_is_issued_once, one_coupon_at_once_is_issued_once,
                coupons_are_found;
            reading: buyers_see_their_own, orders_are_paged, payments_are_filtered, history_is_complete,
                products_are_paged, discrepancies_are_paged, a_payments_discrepancies_are_found,
                the_worklist_shows_what_is_due, recent_events_are_found_by_cause,
                coupons_are_listed, statistics_count,
                changed_orders_are_found, the_last_paid_key_is_found, a_ready_database_says_so;
        );
    };
    (@cases $attributes:tt $factory:path; $($module:ident: $($case:ident),+ ;)+) => {
        $(mod $module {
            $($crate::port_contract!(@case $attributes $factory, $module, $case);)+
        })+
    };
    (@case [$(#[$attribute:meta])+] $factory:path, $module:ident, $case:ident) => {
        $(#[$attribute])+
        async fn $case() {
            $crate::contract::$module::$case($crate::contract::World::new($factory().await)).await;
        }
    };
}

#[cfg(test)]
mod tests {
    crate::port_contract!(
        #[tokio::test(start_paused = true)]
        crate::contract::fake
    );
}
