SELECT NULLIF(CAST('ip' AS STRING), '') AS subject_type, subject, NULLIF(CAST('ip-failures' AS STRING), '') AS rule, ts, oldest, attempt_id
FROM (
  SELECT ip AS subject, ts, id AS attempt_id,
    -- the threshold-th last failure of the subject, this one included
    LAG(ts, 19) OVER (PARTITION BY ip ORDER BY event_time) AS oldest
  FROM attempts
  WHERE outcome = 'failure' AND ip IS NOT NULL
)
WHERE ABS(ts - oldest) < 600000
