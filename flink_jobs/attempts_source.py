"""Attempts as Flink reads them: each record of the topic is one, or has a reason why not."""

from typing import Final

from pyflink.datastream import DataStream
from pyflink.table import Schema, StreamTableEnvironment

from flink_jobs.heartbeat import TICK
from flink_jobs.kafka_tables import access_sql
from flink_jobs.rules_sql import ATTEMPTS, interval_sql
from flink_jobs.settings import Settings
from login_blocking.attempts import FUTURE_REFUSED_MS

CANONICAL: Final = (
    r'^\{"v":1,"id":"[0-9a-f-]{36}+","ts":[1-9][0-9]{12}+,"user":(?!null,"ip":null)'
    r'(?:"[^"\\\x00-\x1f\uFFFD]++"|null),"ip":(?:"[0-9a-f.:/]++"|null),'
    r'"outcome":"(?:failure|success|blocked|limited)"(?:,"known":(?:true|false))?\}$'
)
"""What `login_blocking.attempts` writes, but for names with escapes: cheaper to take apart than any
JSON (docs/decisions/0003-reading-records.md). Possessive: it never tries twice."""

_NO_UTF8: Final = "\N{REPLACEMENT CHARACTER}"
_HORIZON: Final = f"UNIX_TIMESTAMP() * 1000 + {FUTURE_REFUSED_MS}"


def records_table(settings: Settings) -> str:
    """The records of the topic as they are; `event_time` is the record's own stamp."""
    start = "earliest-offset" if settings.bounded else "group-offsets"
    bound = "'scan.bounded.mode' = 'latest-offset'," if settings.bounded else ""
    return f"""\
CREATE TEMPORARY TABLE attempt_records (
  record_key BYTES,
  `value` STRING,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  event_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  WATERMARK FOR event_time AS event_time - {interval_sql(settings.watermark_delay_ms + 1)}
) WITH (
  'connector' = 'kafka',
  'topic' = '{settings.attempts_topic}',
  {access_sql(settings.kafka())}
  'properties.group.id' = '{settings.job_name}',
  'properties.auto.offset.reset' = 'earliest',
  'properties.max.partition.fetch.bytes' = '262144',
  'scan.startup.mode' = '{start}',
  {bound}
  'key.format' = 'raw',
  'key.fields' = 'record_key',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
)"""


def attempts_sql(*, live: bool) -> str:
    """The query that reads each record once; `reason` is null where it is an attempt.

    Live, a stamp far ahead of the clock is refused. A raw STRING keeps a record's bytes as they
    are, so a refused one is handed on unchanged.
    """
    ahead = f"ts > {_HORIZON}" if live else "FALSE"
    fine = f"REGEXP(`value`, '{CANONICAL}')"
    if live:
        fine = f"({fine} AND CAST(SUBSTRING(`value`, 57, 13) AS BIGINT) <= {_HORIZON})"
    return f"""\
-- as the Login API writes them
SELECT
  SUBSTRING(`value`, 14, 36) AS id,
  CAST(SUBSTRING(`value`, 57, 13) AS BIGINT) AS ts,
  {_after('"user":')} AS `user`,
  {_after('"ip":')} AS ip,
  {_after('"outcome":')} AS outcome,
  `value` LIKE '%"known":true}}' AS known,
  `offset` AS `position`, event_time AS stamp,
  CAST(NULL AS STRING) AS reason, CAST(NULL AS BYTES) AS record_key,
  CAST(NULL AS BYTES) AS record_value, CAST(NULL AS INT) AS `partition`
FROM attempt_records
WHERE {fine}
UNION ALL
-- other spellings, and what is no attempt
SELECT
  id,
  CASE WHEN reason IS NULL THEN ts END AS ts,
  `user`, ip,
  CASE WHEN reason IS NULL THEN outcome END AS outcome,
  known_json = '[true]' AS known,
  `position`, event_time AS stamp, reason,
  CASE WHEN reason IS NOT NULL THEN record_key END AS record_key,
  CASE WHEN reason IS NOT NULL THEN CAST(`value` AS BYTES) END AS record_value,
  `partition`
FROM (
  SELECT *, CASE
    WHEN `value` IS NULL THEN 'no value'
    WHEN LOCATE('{_NO_UTF8}', `value`) > 0 OR REGEXP(`value`, '\\uFFFD') THEN 'not UTF-8'
    WHEN `value` IS NOT JSON OBJECT THEN 'not a JSON object'
    WHEN v IS NULL OR v <> '[1]' THEN 'v: not a known version'
    WHEN id_json IS NULL OR id_json NOT LIKE '["_%' THEN 'id: not a text'
    WHEN ts IS NULL THEN 'ts: not a whole number of milliseconds'
    WHEN user_json NOT LIKE '["_%' AND user_json <> '[null]' THEN 'user: neither text nor null'
    WHEN ip_json NOT LIKE '["_%' AND ip_json <> '[null]' THEN 'ip: neither text nor null'
    WHEN `user` = '' OR ip = '' THEN 'user, ip: blank'
    WHEN `user` IS NULL AND ip IS NULL THEN 'user, ip: both missing'
    WHEN outcome IS NULL OR outcome NOT IN ('success', 'failure', 'blocked', 'limited')
      THEN 'outcome: not a known one'
    WHEN known_json NOT IN ('[true]', '[false]') THEN 'known: neither true nor false'
    WHEN {ahead} THEN 'ts: ahead of the clock' END AS reason
  FROM (
    SELECT record_key, `value`, `partition`, `offset` AS `position`, event_time,
      {_wrapped("v")} AS v,
      {_wrapped("id")} AS id_json,
      {_wrapped("user")} AS user_json,
      {_wrapped("ip")} AS ip_json,
      CASE WHEN REGEXP({_wrapped("ts")}, '^\\[-?[0-9]{{1,15}}\\]$')
        THEN TRY_CAST(JSON_VALUE(`value`, '$.ts') AS BIGINT) END AS ts,
      JSON_VALUE(`value`, '$.id') AS id,
      JSON_VALUE(`value`, '$.user') AS `user`,
      JSON_VALUE(`value`, '$.ip') AS ip,
      CASE WHEN {_wrapped("outcome")} LIKE '["%' THEN JSON_VALUE(`value`, '$.outcome') END
        AS outcome,
      {_wrapped("known")} AS known_json
    FROM attempt_records
    WHERE {fine} IS NOT TRUE
  )
)"""  # noqa: S608 — made of constants


def _after(name: str) -> str:
    return f"""REGEXP_EXTRACT(`value`, '{name}"([^"]++)"', 1)"""


def _wrapped(field: str) -> str:
    # In an array a text keeps its quotes, and so can be told from a number.
    return f"JSON_QUERY(`value`, '$.{field}' WITH UNCONDITIONAL ARRAY WRAPPER)"


def schema() -> Schema:
    """The columns of a stream of attempts, as rules read them.

    `arrival` orders what is read in one place, `event_time` what is read in many; `position` is
    the place in the partition.
    """
    return (
        Schema.new_builder()
        .column("id", "STRING")
        .column("ts", "BIGINT")
        .column("user", "STRING")
        .column("ip", "STRING")
        .column("outcome", "STRING")
        .column("known", "BOOLEAN")
        .column("position", "BIGINT")
        .column("reason", "STRING")
        .column("record_key", "BYTES")
        .column("record_value", "BYTES")
        .column("partition", "INT")
        .column_by_expression("arrival", "PROCTIME()")
        .column_by_metadata("event_time", "TIMESTAMP_LTZ(3)", "rowtime", is_virtual=True)
        .watermark("event_time", "SOURCE_WATERMARK()")
        .build()
    )


def register(tables: StreamTableEnvironment, attempts: DataStream) -> None:
    """Lets rules read a stream of attempts, which is read once however many rules there are."""
    tables.create_temporary_view(ATTEMPTS, attempts, schema())


def from_kafka(tables: StreamTableEnvironment, settings: Settings) -> DataStream:
    """The attempts of the topic, with a clock beside them where they go on for ever."""
    tables.execute_sql(records_table(settings))
    attempts = attempts_sql(live=not settings.bounded)
    if ticks(settings):
        _register_clock(tables)
        attempts = f"{attempts}\nUNION ALL\n{_TICKS_AS_ATTEMPTS}"
    return tables.to_data_stream(tables.sql_query(attempts))


def ticks(settings: Settings) -> bool:
    """Whether the clock's ticks are among the attempts, with outcome `tick`."""
    return settings.clock and not settings.bounded


def watermark_behind_ms(settings: Settings) -> int:
    """How far the watermark is behind the clock when nothing waits to be read.

    By the attempts' delay or by the clock's, whichever is longer, and by a second, for Flink makes
    the ticks of a second at once.
    """
    return max(settings.watermark_delay_ms + 1, _BEHIND_MS) + 1_000


_TICKS_PER_S: Final = 5
_HELD_BACK_TICKS: Final = 25
_BEHIND_MS: Final = 900

_TICKS: Final = f"""\
CREATE TEMPORARY TABLE ticks (
  n BIGINT, made_at AS CURRENT_TIMESTAMP, arrival AS PROCTIME()
) WITH ('connector' = 'datagen', 'rows-per-second' = '{_TICKS_PER_S}')"""

_CLOCK: Final = f"""\
SELECT n, CASE
  WHEN earlier IS NULL THEN TO_TIMESTAMP_LTZ(0, 3)
  WHEN TIMESTAMPDIFF(SECOND, earlier, made_at) > {_HELD_BACK_TICKS // _TICKS_PER_S + 1} THEN earlier
  ELSE made_at END AS stamp
FROM (
  SELECT n, made_at, LAG(made_at, {_HELD_BACK_TICKS}) OVER (ORDER BY arrival) AS earlier FROM ticks
)"""  # noqa: S608

_TICKS_AS_ATTEMPTS: Final = f"""\
-- the clock that goes on when nobody logs in
SELECT CAST(n AS STRING), n, CAST(NULL AS STRING), CAST(NULL AS STRING), '{TICK}',
  CAST(NULL AS BOOLEAN), n, event_time, CAST(NULL AS STRING),
  CAST(NULL AS BYTES), CAST(NULL AS BYTES), CAST(NULL AS INT)
FROM clock"""  # noqa: S608


def _register_clock(tables: StreamTableEnvironment) -> None:
    """Ticks that let event time go on over a quiet topic: docs/decisions/0004-quiet-topics.md.

    After a start, and after a pause of the job, they keep to the past for some seconds: until
    then Kafka's partitions look idle, and a clock ahead of a backlog would make it all late.
    """
    tables.execute_sql(_TICKS)
    ticks = tables.to_data_stream(tables.sql_query(_CLOCK))
    schema = (
        Schema.new_builder()
        .column("n", "BIGINT")
        .column("stamp", "TIMESTAMP_LTZ(3)")
        .column_by_expression("event_time", "stamp")
        .watermark("event_time", f"event_time - {interval_sql(_BEHIND_MS)}")
        .build()
    )
    tables.create_temporary_view("clock", ticks, schema)
