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

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a case fails by panicking, as tests do"
)]

pub mod callbacks;
pub mod claims;
pub mod goods;
pub mod keys;
pub mod ledger;
pub mod placing;
pub mod reading;
pub mod settling;
pub mod starting;
pub mod transactions;
pub(crate) mod world;

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
                a_transaction_has_one_moment, locks_are_waited_for, goods_are_locked_on_demand,
                a_rollback_frees_its_locks, a_drop_frees_its_locks, a_locked_row_is_read_after_the_wait,
                what_lies_beside_a_locked_row_is_read_after_the_wait,
                a_callback_waits_for_who_settles_its_payment, a_circle_of_waiting_is_broken,
                batches_that_cross_form_no_circle, ids_are_never_given_twice;
            placing: an_order_is_there_as_it_was_placed, a_batch_is_loaded_at_once,
                a_batch_stores_what_each_takes, a_batch_is_stored_whole_or_not_at_all,
                stock_never_falls_below_zero, points_follow_from_the_balance,
                an_account_that_is_not_there_is_empty, points_are_locked,
                a_coupon_is_stored_at_its_version, a_coupon_race_has_one_winner, ids_and_tokens_are_unique,
                a_payment_on_a_card_needs_the_card, a_batch_has_one_moment;
            keys: a_key_is_taken_with_its_order, a_key_that_is_being_taken_is_not_waited_for,
                a_known_key_is_known_to_several_at_once, a_key_is_read_after_the_wait,
                a_key_is_free_after_a_rollback, a_key_is_taken_once, a_key_twice_in_a_batch_is_taken_once,
                a_key_expires, a_key_belongs_to_its_buyer, the_first_answer_stays, two_answer_at_once,
                a_key_without_an_answer_is_abandoned_after_the_deadline;
            starting: only_pending_payments_are_started, a_payment_is_started_once,
                two_starters_share_nothing, a_payment_that_ends_is_not_started;
            settling: a_case_is_complete, two_payments_of_one_coupon_are_loaded_together,
                key_owners_are_read_after_all_locks, what_can_not_be_settled_is_left_out,
                a_payment_is_stored_at_its_version, a_payment_race_has_one_winner,
                ended_payments_never_change, ended_orders_never_change, a_key_has_one_owner,
                two_take_one_key_at_once, a_card_payment_needs_its_key_to_be_paid,
                the_end_of_sending_moves_the_deadline, what_was_taken_goes_back_once,
                a_coupon_comes_back_once_for_each_payment, a_batch_gives_back_what_each_took,
                a_batch_of_changes_is_stored_whole_or_not_at_all, a_check_is_stored_as_told,
                hints_come_and_go, a_failure_keeps_its_message;
            ledger: one_fact_makes_one_row, a_charge_is_one_fact, two_resolve_a_row_at_once, a_row_is_resolved_once;
            callbacks: a_note_finds_its_payment, a_callback_wakes_its_payment,
                an_unproven_note_wakes_only_what_has_not_ended, the_paying_key_wakes_nobody,
                a_hint_twice_is_one, a_wake_up_during_a_claim_counts, hints_stay_until_they_are_looked_up,
                a_hint_during_its_look_up_is_named_again, a_callback_unparks_a_payment,
                a_callback_wakes_an_ended_payment;
            claims: what_has_not_ended_is_due_in_its_time, what_others_work_on_is_passed_over,
                claimers_share_nothing, a_claim_takes_its_limit, a_turn_examines_nothing_twice,
                a_moment_to_come_counts_as_now, longest_due_first, the_limit_leaves_who_is_due_last,
                a_lease_keeps_others_away, a_lease_expires, a_parked_payment_is_left_alone, never_is_never,
                ended_payments_are_claimed_from_the_watch_list_only, the_woken_are_claimed_apart,
                who_may_still_be_sending_is_left_alone, one_payment_is_claimed_by_id,
                asking_again_is_throttled;
            goods: stock_is_set, a_coupon_is_issued_once, one_coupon_at_once_is_issued_once,
                coupons_are_found;
            reading: buyers_see_their_own, orders_are_paged, payments_are_filtered, history_is_complete,
                products_are_paged, discrepancies_are_paged, a_payments_discrepancies_are_found,
                the_worklist_shows_what_is_due, recent_events_are_found_by_cause, coupons_are_listed,
                statistics_count, changed_orders_are_found, the_last_paid_key_is_found,
                a_ready_database_says_so;
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
