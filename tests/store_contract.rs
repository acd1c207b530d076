//! One suite of claims that every store must hold, run against all three.
//!
//! A claim is a function of a database; the lists at the end say which stores it is run against. What
//! only a database with checks can promise leaves memory out; what is about waiting is PostgreSQL's alone.

#![allow(clippy::unwrap_used, reason = "a test ends at whatever it did not expect")]

#[path = "support/database.rs"]
mod database;
#[path = "store_contract/fence.rs"]
mod fence;
#[path = "store_contract/forget.rs"]
mod forget;
#[path = "store_contract/rows.rs"]
mod rows;
#[path = "store_contract/schema.rs"]
mod schema;
#[path = "store_contract/server.rs"]
mod server;
#[path = "store_contract/shop.rs"]
mod shop;
#[path = "store_contract/upkeep.rs"]
mod upkeep;

macro_rules! claims {
    ($store:ident: $($subject:ident::{$($claim:ident),+ $(,)?}),+ $(,)?) => {
        mod $store {
            use super::database::Database;
            $($(
                #[tokio::test]
                async fn $claim() {
                    super::$subject::$claim(Database::$store().await).await;
                }
            )+)+
        }
    };
}

macro_rules! contract {
    (every store: {$($every:tt)+} stores with checks: {$($checked:tt)+} a server: {$($server:tt)+}) => {
        claims!(postgres: $($every)+ $($checked)+ $($server)+);
        claims!(sqlite: $($every)+ $($checked)+);
        claims!(memory: $($every)+);
    };
}

contract! {
    every store: {
        fence::{
            claim_creates_the_row_at_start_and_raises_the_epoch,
            second_claim_fences_the_first,
            commit_of_several_lanes_is_all_or_none,
            compare_is_by_equality_in_every_part,
            commit_leaves_the_row_as_told,
            a_lane_without_a_row_is_fenced,
            a_lane_twice_in_one_commit_is_a_bug,
            an_empty_commit_tells_the_time,
            sessions_side_by_side_do_not_disturb_each_other,
        },
        rows::{
            every_type_round_trips,
            updates_and_deletes_reach_the_rows_they_name,
            prefixes_load_what_begins_with_them,
            pages_join_without_gap_or_overlap,
            a_key_wanted_twice_gives_its_row_once,
            text_is_ordered_bytewise,
            one_table_takes_the_rows_of_several_lanes,
            a_version_that_moved_stops_and_writes_nothing,
            a_row_that_is_not_as_told_stops_and_writes_nothing,
            what_no_store_can_hold_is_rejected,
            rows_of_the_wrong_shape_are_a_bug,
            the_number_of_statements_does_not_depend_on_the_rows,
        },
        upkeep::{
            trimmed_outbox_keeps_what_a_receiver_has_not_passed,
            trimmed_outbox_keeps_what_its_own_lane_has_not_marked,
            trimmed_outbox_passes_over_what_is_needed,
            identity_is_stable,
            every_session_tells_the_same_timeline,
            partition_counts_are_registered_once,
            an_order_is_found_by_its_lane,
        },
        forget::{
            what_is_old_goes_by_bounded_steps_and_the_rest_stays,
            every_table_that_is_kept_for_a_time_forgets,
            several_who_forget_do_not_disturb_each_other_or_a_lane,
            who_dies_between_two_steps_leaves_nothing_that_stops_the_next,
        },
    }
    stores with checks: {
        schema::{
            a_failed_check_is_rejected_and_writes_nothing,
            a_dangling_row_is_rejected_at_commit,
            a_row_and_what_it_belongs_to_come_in_one_batch,
            tables_have_the_declared_columns,
            a_timer_of_every_purpose_is_taken,
            entities_are_shown_with_what_is_unwell,
            what_is_still_to_be_undone_is_shown,
        },
        shop::{
            the_shops_tables_take_what_they_should_and_nothing_else,
        },
    }
    a server: {
        server::{
            claim_waits_for_a_running_transaction,
            look_and_commit_see_what_they_have_waited_for,
            lock_timeout_says_retry,
            a_terminated_backend_says_retry_and_the_session_goes_on,
            a_commit_that_ends_the_connection_is_unknown,
            a_database_that_is_gone_says_retry,
            rows_are_found_by_index,
            a_slot_that_is_written_or_read_is_left_for_the_next_time,
            a_slot_of_which_too_much_is_needed_stays,
        },
        forget::{
            a_row_that_finds_no_room_makes_it,
            a_lane_goes_on_while_an_old_range_waits_for_a_reader,
            who_is_cut_off_half_way_is_taken_over_from,
            whole_ranges_go_while_lanes_commit_and_none_of_them_waits,
        },
    }
}
