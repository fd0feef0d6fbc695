SELECT NULLIF(CAST('ip' AS STRING), '') AS subject_type, subject, NULLIF(CAST('ip-reset' AS STRING), '') AS rule, ts, oldest, attempt_id
FROM (
  SELECT subject, ts, attempt_id, successes,
    LAG(ts, 19) OVER (PARTITION BY subject ORDER BY event_time) AS oldest,
    LAG(successes, 19) OVER (PARTITION BY subject ORDER BY event_time) AS successes_then
  FROM (
    SELECT ip AS subject, ts, id AS attempt_id, outcome, event_time,
      COUNT(CASE WHEN outcome = 'success' THEN 1 END) OVER (
        PARTITION BY ip ORDER BY event_time
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS successes
    FROM attempts
    WHERE outcome IN ('failure', 'success') AND ip IS NOT NULL
  )
  WHERE outcome = 'failure'
)
WHERE ABS(ts - oldest) < 600000 AND successes = successes_then
