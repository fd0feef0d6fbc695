// Blocks begun in the last hour, by minute and rule: a chart, and the same as a table.
import { html, useEffect, useRef } from './markup.js';
import { hourAndMinute } from './moments.js';

// As many colours as dashboard.css has: --series-0 to --series-7; the last is for all further rules.
const SERIES = 8;

// [{rule, counts, total}]: one a rule by name, the surplus as one.
function seriesOf(begun) {
  const rules = [...new Set(begun.flatMap(({ by_rule: byRule }) => Object.keys(byRule)))].sort();
  const all = rules.map((rule) => ({
    rule, counts: begun.map(({ by_rule: byRule }) => byRule[rule] ?? 0),
  }));
  const shown = all.length > SERIES ? all.slice(0, SERIES - 1) : all;
  const rest = all.slice(shown.length);
  if (rest.length) {
    shown.push({
      rule: `${rest.length} further rules`,
      counts: begun.map((_, at) => rest.reduce((sum, { counts }) => sum + counts[at], 0)),
    });
  }
  return shown.map((one) => ({ ...one, total: one.counts.reduce((sum, n) => sum + n, 0) }));
}

export function HourChart({ summary }) {
  const begun = summary.body?.begun ?? [];
  const series = seriesOf(begun);
  const total = series.reduce((sum, one) => sum + one.total, 0);
  return html`<section class="hour" aria-labelledby="hour-title">
    <h2 id="hour-title">Blocks begun in the last hour
      ${' '}<span class="count">${summary.body ? total.toLocaleString() : ''}</span></h2>
    <ul class="legend">${series.map(({ rule, total: sum }, at) => html`
      <li key=${rule}><span class=${`swatch series-${at}`} aria-hidden="true"></span>
        ${rule} <span class="count">${sum.toLocaleString()}</span></li>`)}
    </ul>
    <${Bars} begun=${begun} series=${series} total=${total} />
    <${MinuteTable} begun=${begun} series=${series} />
  </section>`;
}

function Bars({ begun, series, total }) {
  const canvas = useRef(null);
  const chart = useRef(null);
  const latest = useRef(null);
  latest.current = { begun, series };
  const wanted = JSON.stringify([begun.at(-1)?.minute, series]);
  useEffect(() => {
    let closed = false;
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const recolour = () => chart.current && paint(chart.current) && chart.current.update('none');
    import('./vendor/chart.umd.min.js').then(() => {
      if (closed) return;
      chart.current = new globalThis.Chart(canvas.current, emptyChart());
      draw(chart.current, latest.current.begun, latest.current.series);
    });
    scheme.addEventListener('change', recolour);
    return () => {
      closed = true;
      scheme.removeEventListener('change', recolour);
      chart.current?.destroy();
    };
  }, []);
  useEffect(() => {
    if (chart.current) draw(chart.current, latest.current.begun, latest.current.series);
  }, [wanted]);
  const parts = series.map(({ rule, total: sum }) => `${rule} ${sum}`).join(', ');
  return html`<div class="bars">
    <canvas ref=${canvas} role="img"
      aria-label=${`Bar chart by minute: ${total} blocks begun${parts && `; ${parts}`}. The table below says the same.`}>
    </canvas>
  </div>`;
}

function emptyChart() {
  return {
    type: 'bar',
    data: { labels: [], datasets: [] },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: 'index', intersect: false },
      plugins: {
        legend: { display: false },
        tooltip: { filter: ({ parsed }) => parsed.y > 0 },
      },
      scales: {
        x: {
          stacked: true,
          grid: { display: false },
          ticks: { maxRotation: 0, autoSkip: true, autoSkipPadding: 24 },
        },
        y: { stacked: true, beginAtZero: true, suggestedMax: 4, ticks: { precision: 0, maxTicksLimit: 5 } },
      },
    },
  };
}

function draw(chart, begun, series) {
  chart.data.labels = begun.map(({ minute }) => hourAndMinute(minute));
  chart.data.datasets = series.map(({ rule, counts }) => ({
    label: rule, data: counts, barPercentage: 0.85, categoryPercentage: 1,
  }));
  paint(chart);
  chart.update('none');
}

function paint(chart) {
  const computed = getComputedStyle(document.documentElement);
  const colour = (name) => computed.getPropertyValue(name).trim();
  chart.data.datasets.forEach((dataset, at) => { dataset.backgroundColor = colour(`--series-${at}`); });
  const { x, y } = chart.options.scales;
  x.ticks.color = y.ticks.color = colour('--quiet');
  x.border = y.border = { color: colour('--line') };
  y.grid = { color: colour('--line') };
  return true;
}

function MinuteTable({ begun, series }) {
  const rows = begun.map(({ minute }, at) => ({ minute, at })).reverse()
    .filter(({ at }) => series.some(({ counts }) => counts[at] > 0));
  return html`<details>
    <summary>As a table</summary>
    ${rows.length === 0 ? html`<p class="quiet">No block began in the last hour.</p>` : html`
    <div class="scrolls" tabindex="0" role="group" aria-label="Blocks begun by minute">
      <table>
        <caption>Blocks begun by minute and rule, newest first; minutes without a block are left out.</caption>
        <thead><tr><th scope="col">Minute</th>
          ${series.map(({ rule }) => html`<th key=${rule} scope="col" class="number">${rule}</th>`)}
        </tr></thead>
        <tbody>${rows.map(({ minute, at }) => html`<tr key=${minute}>
          <th scope="row"><time datetime=${minute}>${hourAndMinute(minute)}</time></th>
          ${series.map(({ rule, counts }) => html`<td key=${rule} class="number">${counts[at].toLocaleString()}</td>`)}
        </tr>`)}</tbody>
      </table>
    </div>`}
  </details>`;
}
