// Draws one board with Grafana's own components, from data that pictures.py has fetched and put into the page.
// Grafana's panel plugins and its data source are not on npm. What stands in for them here: frames from Prometheus' answers, a
// registry of field options, bands of states, marks of annotations.
import { createRoot } from 'react-dom/client';
import { ReactNode, useEffect, useState } from 'react';
import { lastValueFrom } from 'rxjs';
import {
  applyFieldOverrides, createTheme, DataFrame, dateTime, Field, FieldConfigOptionsRegistry, FieldType, getFieldDisplayName,
  getFieldDisplayValues, standardTransformers, standardTransformersRegistry, ThemeContext, TimeRange, toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { BigValue, BigValueTextMode, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';

type Series = { metric: Record<string, string>; values?: [number, string][]; value?: [number, string] };
type Answer = { refId: string; legend: string; table: boolean; result: Series[] };
type Panel = any; // one panel of the board's JSON, its variables filled in
type Drawn = { panel: Panel; answers: Answer[] };
type Mark = { at: number; title: string; color: string };
declare const BOARD: { title: string; from: number; to: number; panels: Drawn[]; marks: Mark[] };

const UNIT = 38; // a row of Grafana's grid and the gap below it, px
const GAP = 8;
const theme = createTheme({ colors: { mode: 'dark' } });
const range: TimeRange = {
  from: dateTime(BOARD.from), to: dateTime(BOARD.to), raw: { from: dateTime(BOARD.from), to: dateTime(BOARD.to) },
};

const transformers = new Map(Object.values(standardTransformers).map((one: any) => [one.id, one])); // some have two names
standardTransformersRegistry.setInit(() => [...transformers].map(([id, one]) => ({ id, name: id, transformation: one })) as any);

const OPTIONS = ['unit', 'decimals', 'min', 'max', 'noValue', 'displayName', 'color', 'thresholds', 'mappings', 'links'];
const CUSTOM = [
  'lineWidth', 'fillOpacity', 'fillBelowTo', 'lineStyle', 'lineInterpolation', 'drawStyle', 'showPoints', 'spanNulls',
  'thresholdsStyle', 'axisSoftMin', 'axisSoftMax', 'axisPlacement', 'cellOptions', 'stacking', 'width',
];
const option = (id: string, path: string, isCustom: boolean) =>
  ({ id, path, isCustom, name: id, process: (value: any) => value, shouldApply: () => true, settings: {} }) as any;
const registry = new FieldConfigOptionsRegistry();
OPTIONS.forEach((id) => registry.register(option(id, id, false)));
CUSTOM.forEach((name) => registry.register(option(`custom.${name}`, name, true)));

function named(legend: string, metric: Record<string, string>): string {
  return legend.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? '');
}

function linesOf(answer: Answer): DataFrame[] {
  return answer.result.map((series) => {
    const points = series.values ?? [series.value!];
    const time = { name: 'Time', type: FieldType.time, config: {}, values: points.map(([at]) => at * 1000) };
    const value = {
      name: 'Value', type: FieldType.number, labels: series.metric, values: points.map(([, text]) => numberOf(text)),
      config: { displayNameFromDS: named(answer.legend, series.metric) },
    };
    return toDataFrame({ refId: answer.refId, fields: [time, value] });
  });
}

function numberOf(text: string): number | null {
  return text === 'NaN' ? null : Number(text);
}

function tableOf(answer: Answer, only: boolean): DataFrame {
  const labels = [...new Set(answer.result.flatMap((series) => Object.keys(series.metric)))].sort();
  const columns = labels.map((label) => (
    { name: label, type: FieldType.string, config: {}, values: answer.result.map((series) => series.metric[label] ?? '') }
  ));
  const times = answer.result.map((series) => series.value![0] * 1000);
  const values = answer.result.map((series) => numberOf(series.value![1]));
  return toDataFrame({
    refId: answer.refId,
    fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: times }, ...columns,
      { name: only ? 'Value' : `Value #${answer.refId}`, type: FieldType.number, config: {}, values },
    ],
  });
}

async function framesOf({ panel, answers }: Drawn): Promise<DataFrame[]> {
  const raw = answers.flatMap((one) => (one.table ? [tableOf(one, answers.length === 1)] : linesOf(one)));
  const made = await lastValueFrom(transformDataFrame(panel.transformations ?? [], raw));
  return applyFieldOverrides({
    data: made, fieldConfig: panel.fieldConfig, replaceVariables: (text: string) => text, theme, fieldConfigRegistry: registry,
    timeZone: 'utc',
  });
}

function Nothing({ panel }: { panel: Panel }) {
  return <div style={{ padding: 12, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue}</div>;
}

function Figures({ panel, frames, width, height }: Size) {
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (text: string) => text, theme,
    data: frames, timeZone: 'utc',
  });
  const one = ({ value, width, height }: any) => (
    <BigValue value={value.display} width={width} height={height} theme={theme} count={values.length}
      colorMode={panel.options.colorMode} graphMode={panel.options.graphMode}
      textMode={values.length > 1 && panel.options.textMode === 'auto' ? BigValueTextMode.ValueAndName : panel.options.textMode} />
  );
  return (
    <VizRepeater getValues={() => values} renderValue={one} width={width} height={height} source={frames} itemSpacing={3}
      renderCounter={0} orientation={'auto' as any} />
  );
}

function Lines({ panel, frames, width, height }: Size) {
  const mark = (config: any) => {
    config.addHook('draw', (plot: any) => {
      for (const { at, color } of BOARD.marks) {
        const x = plot.valToPos(at, 'x', true);
        plot.ctx.save();
        plot.ctx.strokeStyle = theme.visualization.getColorByName(color);
        plot.ctx.setLineDash([6, 4]);
        plot.ctx.beginPath();
        plot.ctx.moveTo(x, plot.bbox.top);
        plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
        plot.ctx.stroke();
        plot.ctx.restore();
      }
    });
    return null;
  };
  return (
    <TimeSeries frames={frames} structureRev={1} timeRange={range} timeZone="utc" width={width} height={height}
      legend={panel.options.legend} options={panel.options}>
      {mark as any}
    </TimeSeries>
  );
}

function bands(field: Field, times: number[]) {
  const found: { from: number; to: number; text: string; color: string }[] = [];
  times.forEach((at, index) => {
    const shown = field.display!(field.values[index]);
    const last = found[found.length - 1];
    const gap = last && index > 0 && at - times[index - 1] > 4 * (times[1] - times[0]);
    if (last && !gap && last.text === shown.text) {
      last.to = at;
    } else {
      if (last && !gap) { last.to = at; }
      found.push({ from: at, to: at, text: shown.text, color: shown.color ?? '#888' });
    }
  });
  return found;
}

function Bands({ frames, width, height }: Size) {
  const names = 190;
  const rows = frames.flatMap((frame) => frame.fields.slice(1).map((field) => ({ frame, field })));
  const high = Math.min(28, (height - 4) / rows.length);
  const share = (at: number) => (100 * (at - BOARD.from)) / (BOARD.to - BOARD.from);
  return (
    <div style={{ width, height, overflow: 'hidden', fontSize: 12 }}>
      {rows.map(({ frame, field }, index) => (
        <div key={index} style={{ display: 'flex', height: high, alignItems: 'center' }}>
          <div style={{ width: names, textAlign: 'right', paddingRight: 8, whiteSpace: 'nowrap', overflow: 'hidden' }}>
            {getFieldDisplayName(field, frame, frames)}
          </div>
          <div style={{ position: 'relative', flex: 1, height: high * 0.9 }}>
            {bands(field, frame.fields[0].values).map((band, place) => (
              <div key={place} style={{
                position: 'absolute', left: `${share(band.from)}%`, width: `max(2px, ${share(band.to) - share(band.from)}%)`,
                height: '100%', background: band.color, opacity: 0.75, overflow: 'hidden', color: '#fff', lineHeight: `${high * 0.9}px`, whiteSpace: 'nowrap',
                borderLeft: '1px solid #000',
              }}>{band.text}</div>
            ))}
          </div>
        </div>
      ))}
    </div>
  );
}

type Size = { panel: Panel; frames: DataFrame[]; width: number; height: number };

function Body({ drawn, width, height }: { drawn: Drawn; width: number; height: number }) {
  const [frames, setFrames] = useState<DataFrame[]>();
  useEffect(() => { framesOf(drawn).then(setFrames); }, []);
  if (!frames) { return null; }
  const size = { panel: drawn.panel, frames, width, height };
  if (drawn.panel.type === 'stat') { return <Figures {...size} />; }
  if (frames.every((frame) => frame.length === 0)) { return <Nothing panel={drawn.panel} />; }
  switch (drawn.panel.type) {
    case 'timeseries': return <Lines {...size} />;
    case 'table': return <Table data={frames[0]} width={width} height={height} />;
    case 'state-timeline': return <Bands {...size} />;
    default: return <div>{drawn.panel.type}</div>;
  }
}

function Tile({ drawn, scale }: { drawn: Drawn; scale: number }): ReactNode {
  const { x, y, w, h } = drawn.panel.gridPos;
  const [width, height] = [w * scale - GAP, h * UNIT - GAP];
  const place = { position: 'absolute' as const, left: x * scale, top: 50 + y * UNIT, width, height };
  if (drawn.panel.type === 'row') { return <div style={{ ...place, paddingTop: 6, fontWeight: 500 }}>{drawn.panel.title}</div>; }
  return (
    <div style={place}>
      <PanelChrome title={drawn.panel.title} width={width} height={height}>
        {(inner, innerHeight) => <Body drawn={drawn} width={inner} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

function Board() {
  const width = 1600;
  const bottom = Math.max(...BOARD.panels.map(({ panel }) => panel.gridPos.y + panel.gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div id="board" style={{ position: 'relative', width: width + GAP, height: 50 + bottom * UNIT, padding: GAP }}>
        <h3 style={{ padding: 8 }}>{BOARD.title}</h3>
        {BOARD.panels.map((drawn, index) => <Tile key={index} drawn={drawn} scale={width / 24} />)}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')!).render(<Board />);
