SELECT NULLIF(CAST('user' AS STRING), '') AS subject_type, subject, NULLIF(CAST('user-reset' AS STRING), '') AS rule, ts, oldest, attempt_id
FROM (
  SELECT `user` AS subject, ts, id AS attempt_id, outcome,
    -- the threshold-th last attempt, and whether a success came after it
    LAG(ts, 4) OVER (PARTITION BY `user` ORDER BY arrival) AS oldest,
    LAG(`position`, 4) OVER (PARTITION BY `user` ORDER BY arrival) AS oldest_position,
    MAX(CASE WHEN outcome = 'success' THEN `position` END) OVER (PARTITION BY `user` ORDER BY arrival) AS last_success
  FROM attempts
  WHERE outcome IN ('failure', 'success') AND `user` IS NOT NULL
)
WHERE outcome = 'failure' AND ABS(ts - oldest) < 60000
  AND (last_success IS NULL OR last_success < oldest_position)
