-- A receiver compares the running digests of its links. With only the last one a repeat that says something else would
-- be seen once it reaches the last number, and those before it would have been dropped as repeats.

-- The timeline of the last message taken, and the beginnings of the last digests, the last one's at the end.
alter table "seriatim"."link_in" add column "timeline" bigint;
alter table "seriatim"."link_in" add column "recent" bytea;
