SELECT NULLIF(CAST('user' AS STRING), '') AS subject_type, subject, NULLIF(CAST('elsewhere' AS STRING), '') AS rule, ts, oldest, attempt_id
FROM (
  SELECT `user` AS subject, ts, id AS attempt_id,
    -- the threshold-th last failure of the subject, this one included
    LAG(ts, 4) OVER (PARTITION BY `user` ORDER BY arrival) AS oldest
  FROM attempts
  WHERE outcome = 'failure' AND `user` IS NOT NULL AND known IS NOT TRUE
)
WHERE ABS(ts - oldest) < 60000
