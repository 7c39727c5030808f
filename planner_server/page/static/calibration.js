// Camera calibrations, kept in this browser: 3 x 4 matrices from the base frame [m] to the pixels of a frame.

const KEY = "planner-camera:";

/** Read a calibration file: {width, height, projection: 3 x 4} or {width, height, matrix: K, pose_camera_base: 4 x 4}. */
export function parseCalibration(text) {
  const file = JSON.parse(text);
  const rows = file.projection ?? product(file.matrix, file.pose_camera_base.slice(0, 3));
  const isMatrix = rows.length === 3 && rows.every((row) => row.length === 4 && row.every(Number.isFinite));
  if (!isMatrix || !(file.width > 0) || !(file.height > 0)) throw new Error("a calibration has width, height and a 3 x 4 projection of finite numbers");
  return { width: file.width, height: file.height, projection: rows };
}

export const saveCalibration = (id, calibration) => localStorage.setItem(KEY + id, JSON.stringify(calibration));
export const removeCalibration = (id) => localStorage.removeItem(KEY + id);
export const hasCalibration = (id) => localStorage.getItem(KEY + id) !== null;

/** Return what takes a pose to fractions of the frame, null where it lies behind the camera; null without a calibration. */
export function projectionOf(id) {
  const text = localStorage.getItem(KEY + id);
  if (text === null) return null;
  const { width, height, projection } = JSON.parse(text);
  return ([x, y, z]) => {
    const [u, v, w] = projection.map((row) => row[0] * x + row[1] * y + row[2] * z + row[3]);
    return w > 1e-6 ? [u / w / width, v / w / height] : null;
  };
}

const product = (a, b) => a.map((row) => b[0].map((_, column) => row.reduce((sum, value, index) => sum + value * b[index][column], 0)));
