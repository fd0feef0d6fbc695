SELECT NULLIF(CAST('ip' AS STRING), '') AS subject_type, subject, NULLIF(CAST('spraying' AS STRING), '') AS rule, ts, ts AS oldest, attempt_id
FROM (
  SELECT ip AS subject, ts, id AS attempt_id,
    COUNT(DISTINCT `user`) OVER (
      PARTITION BY ip ORDER BY event_time
      RANGE BETWEEN INTERVAL '0 00:10:00.000' DAY(2) TO SECOND(3) PRECEDING AND CURRENT ROW) AS others
  FROM attempts
  WHERE outcome = 'failure' AND ip IS NOT NULL
)
WHERE others >= 10
