// Blocks begun in the last hour, by minute and rule: a chart, and the same as a table.
import { html, useEffect, useRef } from './markup.js';
import { hourAndMinute } from './moments.js';

// As many colours as dashboard.css has: --series-0 to --series-7; the last is for all further rules.
const SERIES = 8;

// In the order in which this page met them: a rule keeps its colour when another one comes.
const met = [];

// [{rule, slot, counts, total}]: one a rule, the surplus as one; `slot` is the colour.
function seriesOf(begun) {
  const rules = [...new Set(begun.flatMap(({ by_rule: byRule }) => Object.keys(byRule)))].sort();
  met.push(...rules.filter((rule) => !met.includes(rule)));
  const slots = Array.from({ length: SERIES }, () => []);
  rules.forEach((rule) => slots[Math.min(met.indexOf(rule), SERIES - 1)].push(rule));
  return slots.map((named, slot) => {
    const counts = begun.map(({ by_rule: byRule }) => sum(named.map((rule) => byRule[rule] ?? 0)));
    const rule = named.length === 1 ? named[0] : `${named.length} further rules`;
    return { rule, slot, counts, total: sum(counts) };
  }).filter((_, slot) => slots[slot].length > 0);
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

export function HourChart({ summary }) {
  const begun = summary.body?.begun ?? [];
  const series = seriesOf(begun);
  const total = sum(series.map((one) => one.total));
  return html`<section class="hour" aria-labelledby="hour-title">
    <h2 id="hour-title">Blocks begun in the last hour
      ${' '}<span class="count">${summary.body ? total.toLocaleString() : ''}</span></h2>
    <ul class="legend">${series.map((one) => html`
      <li key=${one.rule}><span class=${`swatch series-${one.slot}`} aria-hidden="true"></span>
        ${one.rule} <span class="count">${one.total.toLocaleString()}</span></li>`)}
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
  const parts = series.map((one) => `${one.rule} ${one.total}`).join(', ');
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
  chart.data.datasets = series.map(({ rule, slot, counts }) => ({
    label: rule, slot, data: counts, barPercentage: 0.85, categoryPercentage: 1,
  }));
  paint(chart);
  chart.update('none');
}

function paint(chart) {
  const computed = getComputedStyle(document.documentElement);
  const colour = (name) => computed.getPropertyValue(name).trim();
  chart.data.datasets.forEach((dataset) => { dataset.backgroundColor = colour(`--series-${dataset.slot}`); });
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
