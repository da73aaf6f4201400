// The stored form of a row's clock: the columns `_time`, `_origin` and `_fields` of its table.
//
// `_time` and `_origin` are the newest stamp. `_fields` is NULL when every column of the table's first
// schema bears that stamp, and no other column was ever written; else:
//
//   bytes  content
//   v      for how many columns the clock speaks
//   v      number of exceptions, n
//   v      mask of the columns that bear the newest stamp          } only if n > 0; the columns that
//   v ...  masks of the exceptions but the last, newest first      } remain are the last exception's
//   n x    origin (v), then, unless it is 0: newest time minus time (v). Origin 0 is "never written".
//
// v is a LEB128 number. Column 0, the identifier, is in no mask.

extension RowClock {
    /// The value of `_fields`, nil for NULL.
    ///
    /// - Parameter baseColumnCount: How many columns the table had in its first schema.
    package func fields(baseColumnCount: Int) -> [UInt8]? {
        if exceptions.isEmpty, columnCount == baseColumnCount { return nil }
        var writer = ByteWriter(capacity: 16)
        writer.varint(UInt64(columnCount))
        writer.varint(UInt64(exceptions.count))
        if !exceptions.isEmpty {
            var top = ColumnMask(first: columnCount).subtracting(ColumnMask(column: 0))
            for exception in exceptions { top.subtract(exception.columns) }
            writer.varint(top.rawValue)
            for exception in exceptions.dropLast() { writer.varint(exception.columns.rawValue) }
        }
        for exception in exceptions {
            writer.varint(UInt64(exception.stamp.origin.rawValue))
            if exception.stamp != .zero {
                writer.varint(newest.time.packed - exception.stamp.time.packed)
            }
        }
        return writer.bytes
    }

    /// Reads a stored clock.
    ///
    /// - Throws: ``MalformedBytes`` when `fields` was not written by ``fields(baseColumnCount:)``:
    ///   the row is damaged.
    package init(
        newest: Stamp,
        fields: UnsafeRawBufferPointer?,
        baseColumnCount: Int
    ) throws(MalformedBytes) {
        guard let fields else {
            self.init(newest: newest, exceptions: [], columnCount: baseColumnCount)
            return
        }
        var reader = ByteReader(fields)
        let columnCount = try reader.varint()
        guard columnCount <= 64 else { throw .outOfRange("\(columnCount) columns", offset: 0) }
        let exceptionCount = try reader.count(bytesEach: 1, max: 64)
        var exceptions: [Exception] = []
        if exceptionCount > 0 {
            var left = ColumnMask(first: Int(columnCount)).subtracting(ColumnMask(column: 0))
            for index in 0..<exceptionCount {
                let mask = ColumnMask(rawValue: try reader.varint())
                guard mask.isSubset(of: left), index == 0 || !mask.isEmpty else {
                    throw .outOfRange("column mask", offset: reader.offset)
                }
                left.subtract(mask)
                if index > 0 { exceptions.append(Exception(columns: mask, stamp: .zero)) }
            }
            guard !left.isEmpty else { throw .outOfRange("column mask", offset: reader.offset) }
            exceptions.append(Exception(columns: left, stamp: .zero))
        }
        var previous = newest
        for index in exceptions.indices {
            let stamp = try Self.stamp(from: &reader, newest: newest.time)
            guard stamp < previous else { throw .outOfRange("stamp order", offset: reader.offset) }
            exceptions[index].stamp = stamp
            previous = stamp
        }
        try reader.finish()
        self.init(newest: newest, exceptions: exceptions, columnCount: Int(columnCount))
    }

    private static func stamp(
        from reader: inout ByteReader,
        newest: HybridTimestamp
    ) throws(MalformedBytes) -> Stamp {
        let number = try reader.varint()
        guard number <= UInt64(Origin.rawValueMax), let origin = Origin(rawValue: UInt32(number)) else {
            throw .outOfRange("origin \(number)", offset: reader.offset)
        }
        if origin == .none { return .zero }
        let earlier = try reader.varint()
        guard earlier <= newest.packed, let time = HybridTimestamp(packed: newest.packed - earlier) else {
            throw .outOfRange("stamp", offset: reader.offset)
        }
        return Stamp(time: time, origin: origin)
    }
}
