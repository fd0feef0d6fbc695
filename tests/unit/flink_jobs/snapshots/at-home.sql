SELECT NULLIF(CAST('user' AS STRING), '') AS subject_type, subject, NULLIF(CAST('at-home' AS STRING), '') AS rule, ts, ts AS oldest, attempt_id
FROM (
  SELECT `user` AS subject, ts, id AS attempt_id,
    COUNT(DISTINCT ip) OVER (
      PARTITION BY `user` ORDER BY event_time
      RANGE BETWEEN INTERVAL '0 00:01:00.000' DAY(2) TO SECOND(3) PRECEDING AND CURRENT ROW) AS others
  FROM attempts
  WHERE outcome = 'failure' AND `user` IS NOT NULL AND known
)
WHERE others >= 5
