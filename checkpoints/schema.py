"""The tables of a run's file, as numbered migrations, and views to look at them by SQL.

Facts stand once: texts by their sha256 in `text`, everything else refers to them. LangGraph adds
its two tables, `checkpoints` and `writes`. Queries are named by ordinal, candidates by id.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("drpo")


@migrations()
def m001_tables(db: Database) -> None:
    """Everything a search remembers."""
    _execute(
        db,
        """
        create table run (
            id text primary key,
            status text not null check (status in ('running', 'paused', 'done', 'failed')),
            reason text,
            created_at text not null,
            updated_at text not null,
            settings text not null,
            fingerprint text not null,
            drpo_version text not null,
            owner_host text,
            owner_pid integer,
            seconds real not null default 0
        );
        create table text (sha256 text primary key, body text not null);
        create table query (
            ordinal integer primary key,
            id text not null unique,
            messages text not null,
            tags text not null
        );
        create table call (
            key text primary key,
            role text not null,
            level integer not null,
            candidate integer,
            query integer,
            sample integer not null,
            n integer not null,
            provider text not null,
            model text not null,
            parameters text not null,
            messages text not null,
            request_sha256 text,
            texts text not null,
            finish_reasons text not null,
            prompt_tokens integer not null,
            completion_tokens integer not null,
            tokens_estimated integer not null,
            cost_usd real,
            hits integer not null default 0,
            finished_at text not null,
            seconds real not null
        );
        create table attempt (
            call text not null,
            number integer not null,
            started_at text not null,
            seconds real not null,
            problem text,
            primary key (call, number, started_at)
        );
        create table selection (
            query integer primary key references query (ordinal),
            aspects text not null,
            reason text not null,
            notes text not null,
            call text references call (key)
        );
        create table candidate (
            id integer primary key,
            level integer not null,
            parent integer references candidate (id),
            origin text not null,
            item integer,
            prompts text not null,
            reward real,
            path_sum real not null default 0,
            path_count integer not null default 0,
            beam_rank integer
        );
        create index candidate_level on candidate (level);
        create table rewrite (
            parent integer not null references candidate (id),
            item integer not null,
            prompts text,
            failure text,
            call text references call (key),
            primary key (parent, item)
        );
        create table sample (
            candidate integer not null references candidate (id),
            query integer not null references query (ordinal),
            sample integer not null,
            text text not null references text (sha256),
            failure text,
            call text references call (key),
            primary key (candidate, query, sample)
        );
        create table verdict (
            candidate integer not null references candidate (id),
            query integer not null references query (ordinal),
            sample integer not null,
            scores text not null,
            unscored text,
            notes text not null,
            reward real,
            call text references call (key),
            primary key (candidate, query, sample)
        );
        create table decision (
            node text not null,
            level integer not null,
            candidate integer not null,
            item integer not null,
            action text not null,
            reason text not null,
            primary key (node, level, candidate, item)
        );
        """,
    )


@migrations()
def m002_views(db: Database) -> None:
    """Readable names for common looks."""
    _execute(
        db,
        """
        create view timeline as
            select finished_at, role, level, candidate, query.id as query, provider, model,
                   prompt_tokens, completion_tokens, cost_usd, call.seconds, hits
            from call left join query on query.ordinal = call.query
            order by finished_at;
        create view cost_per_role as
            select role, count(*) as new_calls, sum(hits) as from_ledger,
                   sum(prompt_tokens) as prompt_tokens,
                   sum(completion_tokens) as completion_tokens,
                   sum(cost_usd) as cost_usd, sum(seconds) as seconds
            from call group by role;
        create view branches as
            select candidate.id, level, parent, origin, reward,
                   case when path_count then path_sum / path_count end as path_value,
                   beam_rank, text.body as system
            from candidate
            left join text on text.sha256 = json_extract(prompts, '$.system')
            order by candidate.id;
        """,
    )


@migrations()
def m003_reference(db: Database) -> None:
    """A query may have a reference answer."""
    _execute(db, "alter table query add column reference text")


@migrations()
def m004_estimate(db: Database) -> None:
    """What the run was estimated to take when it was made, as JSON."""
    _execute(db, "alter table run add column estimate text")


@migrations()
def m005_forks_and_owners(db: Database) -> None:
    """Where a fork comes from and starts, what a person wrote, whose run it is, what was paid."""
    _execute(
        db,
        """
        alter table run add column parent text;
        alter table run add column start text;
        alter table run add column recoveries integer not null default 0;
        alter table run add column recovered_at integer not null default 0;
        alter table run add column heartbeat_at text;
        alter table rewrite add column author text;
        alter table call add column inherited integer not null default 0;
        create view paid as select * from call where not inherited;
        drop view cost_per_role;
        create view cost_per_role as
            select role, sum(not inherited) as new_calls,
                   sum(hits) as from_ledger,
                   sum(iif(inherited, 0, prompt_tokens)) as prompt_tokens,
                   sum(iif(inherited, 0, completion_tokens)) as completion_tokens,
                   sum(iif(inherited, 0, cost_usd)) as cost_usd,
                   sum(iif(inherited, 0, seconds)) as seconds
            from call group by role;
        """,
    )


@migrations()
def m006_outcomes(db: Database) -> None:
    """How each call ended, what the model thought, and what its server does not take."""
    _execute(
        db,
        """
        alter table call add column outcome text not null default 'ok';
        alter table call add column thinking text not null default '[]';
        create table left_out (
            role text not null,
            parameter text not null,
            reason text not null,
            primary key (role, parameter)
        );
        create view outcomes as
            select role, outcome, count(*) as calls
            from call where not inherited group by role, outcome;
        drop view paid;
        create view paid as select * from call where not inherited;
        """,
    )


@migrations()
def m007_alignment(db: Database) -> None:
    """Examples, several searches in one run, and what validation compares and finds."""
    _execute(
        db,
        """
        alter table run add column kind text not null default 'search';
        alter table query add column answer text;
        alter table query add column part text not null default 'train';
        alter table candidate add column search integer
            generated always as (id / 1000000) virtual;
        create table search (
            number integer primary key,
            kind text not null check (kind in ('prompt', 'arms', 'example')),
            query integer references query (ordinal)
        );
        create table example (
            number integer primary key,
            query text not null references text (sha256),
            answer text not null references text (sha256),
            candidate integer references candidate (id)
        );
        create table embedding (
            embedder text not null,
            text text not null references text (sha256),
            vector blob not null,
            primary key (embedder, text)
        );
        create table arm (
            candidate integer primary key references candidate (id),
            part text not null check (part in ('select', 'confirm')),
            name text not null,
            prompt integer not null references candidate (id),
            with_examples integer not null
        );
        create table reading (
            number integer primary key,
            part text not null,
            queries_sha256 text not null,
            at text not null
        );
        create table finding (name text primary key, body text not null);
        """,
    )


@migrations()
def m008_looks(db: Database) -> None:
    """Views for the questions of docs/sql.md, and what a collector has been sent of the run."""
    _execute(
        db,
        """
        create table traced (
            search integer not null,
            level integer not null,
            at text not null,
            primary key (search, level)
        );
        create view answers as
            select candidate.search, candidate.level, sample.candidate, query.id as query,
                   sample.sample, text.body as answer, sample.failure, verdict.reward,
                   verdict.unscored, sample.call as asked, verdict.call as judged
            from sample
            join candidate on candidate.id = sample.candidate
            join query on query.ordinal = sample.query
            join text on text.sha256 = sample.text
            left join verdict using (candidate, query, sample);
        create view scores as
            select candidate.search, candidate.level, verdict.candidate, query.id as query,
                   verdict.sample, json_extract(score.value, '$.aspect') as aspect,
                   json_extract(score.value, '$.value') as score,
                   json_extract(score.value, '$.rationale') as rationale,
                   json_extract(score.value, '$.unscored') as unscored
            from verdict
            join candidate on candidate.id = verdict.candidate
            join query on query.ordinal = verdict.query
            join json_each(verdict.scores) as score;
        create view fates as
            select candidate.search, candidate.level, candidate.id as candidate, parent, origin,
                   reward, case when path_count then path_sum / path_count end as path_value,
                   node, action, reason
            from candidate
            join decision on decision.candidate = candidate.id
            where node != 'admit' and decision.level = candidate.level;
        create view refusals as
            select decision.level, decision.candidate as parent, decision.item, action, reason,
                   text.body as system
            from decision
            left join rewrite on rewrite.parent = decision.candidate
                and rewrite.item = decision.item
            left join text on text.sha256 = json_extract(rewrite.prompts, '$.system')
            where node = 'admit' and action in ('refused', 'unreadable');
        create view conversations as
            select call.key as call, role, level, candidate, query.id as query, turn.key as turn,
                   json_extract(turn.value, '$[0]') as speaker, text.body as said
            from call
            left join query on query.ordinal = call.query
            join json_each(call.messages) as turn
            join text on text.sha256 = json_extract(turn.value, '$[1]')
            union all
            select call.key, role, level, candidate, query.id,
                   json_array_length(call.messages) + reply.key, 'reply', text.body
            from call
            left join query on query.ordinal = call.query
            join json_each(call.texts) as reply
            join text on text.sha256 = reply.value;
        create view retries as
            select attempt.started_at, role, level, candidate, query.id as query, number,
                   attempt.seconds, problem, attempt.call
            from attempt
            left join call on call.key = attempt.call
            left join query on query.ordinal = call.query
            where problem is not null;
        create view arm_rewards as
            select arm.part, arm.name, arm.with_examples, arm.candidate, query.id as query,
                   verdict.sample, verdict.reward
            from arm
            join verdict on verdict.candidate = arm.candidate
            join query on query.ordinal = verdict.query;
        """,
    )


def _execute(db: Database, statements: str) -> None:
    """One by one: `executescript` would commit, and a migration is all or nothing."""
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)
