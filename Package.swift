// swift-tools-version: 6.1
import PackageDescription

/// Debug builds can make mistakes and end in the middle of things on purpose, for the tests to notice.
let faultInjection: [SwiftSetting] = [.define("FAULT_INJECTION", .when(configuration: .debug))]

let package = Package(
    name: "Peyvand",
    products: [
        .executable(name: "peyvand", targets: ["peyvand"])
    ],
    dependencies: [
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
        .package(url: "https://github.com/onevcat/Rainbow", from: "4.2.2"),
    ],
    targets: [
        // system: C libraries from Debian, and one shim for variadic C functions.
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .systemLibrary(name: "CXLSXWriter", pkgConfig: "xlsxwriter", providers: [.apt(["libxlsxwriter-dev"])]),
        .systemLibrary(name: "CMinizip", pkgConfig: "minizip", providers: [.apt(["libminizip-dev"])]),
        .systemLibrary(name: "CExpat", pkgConfig: "expat", providers: [.apt(["libexpat1-dev"])]),
        .target(name: "CSQLite", cSettings: [.define("FAULT_INJECTION", .when(configuration: .debug))]),

        // core: standard library only.
        .target(name: "Causality", swiftSettings: faultInjection),

        // rules: no I/O, no clock, no randomness.
        .target(
            name: "SyncProtocol",
            dependencies: ["Causality", "CZstd", .product(name: "Crypto", package: "swift-crypto")]
        ),
        .target(name: "CRM", dependencies: ["Causality"]),
        // Certificates: who is believed, and until when. Keys are made here, nothing is read or written.
        .target(
            name: "Trust",
            dependencies: [
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
                .product(name: "Crypto", package: "swift-crypto"),
            ]
        ),

        // edges: they never import each other.
        .target(
            name: "ReplicaStore",
            dependencies: [
                "Causality", "SyncProtocol", "CRM", "Trust", "CSQLite", "CXXHash",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: faultInjection
        ),
        .target(
            name: "SyncTransport",
            dependencies: [
                "Causality", "SyncProtocol", "Trust",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Logging", package: "swift-log"),
            ]
        ),

        .target(
            name: "WebConsole",
            dependencies: [
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
            ]
        ),

        // Files of spreadsheet programs, in and out. It knows nothing of what their columns mean.
        .target(name: "Spreadsheet", dependencies: ["CRM", "CExpat", "CMinizip", "CXLSXWriter"]),

        // entry: commands, configuration, wiring.
        .executableTarget(
            name: "peyvand",
            dependencies: [
                "Causality", "SyncProtocol", "CRM", "Trust", "ReplicaStore", "SyncTransport", "WebConsole",
                "Spreadsheet",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "TOMLKit", package: "TOMLKit"),
                .product(name: "Rainbow", package: "Rainbow"),
            ]
        ),

        // tests: what several suites use, then a suite per target.
        .target(
            name: "TestKit",
            dependencies: ["ReplicaStore", "SyncProtocol", "Causality", "Trust"],
            path: "Tests/TestKit"
        ),
        .target(
            name: "CCrashDisk",
            dependencies: ["CSQLite"],
            path: "Tests/SimulationKit/CCrashDisk",
            linkerSettings: [.linkedLibrary("sqlite3")]
        ),
        .target(
            name: "SimulationKit",
            dependencies: [
                "CCrashDisk", "DecoderFuzzing", "ReplicaStore", "SyncProtocol", "CRM", "Causality", "TestKit",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ],
            path: "Tests/SimulationKit",
            exclude: ["CCrashDisk"]
        ),
        .executableTarget(
            name: "peyvand-sim",
            dependencies: [
                "SimulationKit", "Causality",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Rainbow", package: "Rainbow"),
            ],
            path: "Tests/peyvand-sim"
        ),
        .executableTarget(
            name: "peyvand-bench",
            dependencies: [
                "ReplicaStore", "SyncProtocol", "CRM", "Causality", "TestKit",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Rainbow", package: "Rainbow"),
            ],
            path: "Tests/peyvand-bench",
            exclude: ["floors.json"]
        ),
        .target(
            name: "DecoderFuzzing",
            dependencies: ["SyncProtocol", "CRM", "Causality"],
            path: "Tests/DecoderFuzzing"
        ),
        .executableTarget(name: "peyvand-fuzz", dependencies: ["DecoderFuzzing"], path: "Tests/peyvand-fuzz"),
        .target(
            name: "MatchingKit",
            dependencies: ["CRM", "Causality", "TestKit"],
            path: "Tests/MatchingKit"
        ),
        .executableTarget(
            name: "peyvand-train",
            dependencies: [
                "MatchingKit", "ReplicaStore", "SyncProtocol", "CRM", "Causality", "TestKit", "CZstd",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Tests/peyvand-train"
        ),
        .executableTarget(
            name: "peyvand-match",
            dependencies: [
                "MatchingKit", "CRM",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Rainbow", package: "Rainbow"),
            ],
            path: "Tests/peyvand-match"
        ),
        .testTarget(
            name: "SimulationTests",
            dependencies: [
                "SimulationKit", "ReplicaStore", "SyncProtocol", "CRM", "Causality", "TestKit",
                .product(name: "GRDB", package: "GRDB.swift"),
            ]
        ),
        .testTarget(name: "TrustTests", dependencies: ["Trust"]),
        .testTarget(name: "CausalityTests", dependencies: ["Causality", "TestKit"]),
        .testTarget(
            name: "SyncProtocolTests",
            dependencies: ["CZstd", "DecoderFuzzing", "SyncProtocol", "Causality", "TestKit"],
            exclude: ["Golden"]
        ),
        .testTarget(
            name: "CRMTests",
            dependencies: ["CRM", "Causality", "TestKit", "MatchingKit"],
            exclude: ["Vectors"]
        ),
        .testTarget(
            name: "ReplicaStoreTests",
            dependencies: [
                "ReplicaStore", "SyncProtocol", "CRM", "Causality", "Trust", "TestKit", "SimulationKit", "MatchingKit",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ]
        ),
        .testTarget(
            name: "SyncTransportTests",
            dependencies: [
                "SyncTransport", "SyncProtocol", "Causality", "Trust", "TestKit",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        .testTarget(
            name: "WebConsoleTests",
            dependencies: ["WebConsole", "TestKit", .product(name: "Logging", package: "swift-log")]
        ),
        .testTarget(
            name: "SpreadsheetTests",
            dependencies: ["Spreadsheet", "TestKit", "CMinizip"],
            exclude: ["Files"]
        ),
        .testTarget(
            name: "PeyvandTests",
            dependencies: [
                "peyvand", "ReplicaStore", "SyncTransport", "SyncProtocol", "CRM", "Causality", "Trust", "Spreadsheet",
                "TestKit", "MatchingKit", .product(name: "Logging", package: "swift-log"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
